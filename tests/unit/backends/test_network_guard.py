"""The guard that keeps tests on this machine."""

import socket

import pytest

from tests.network import NetworkForbidden, is_local


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", b"localhost", None, "::1%lo"])
def test_this_machine_is_local(host: object) -> None:
    assert is_local(host)


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1", "raa.example", b"raa.example", "127.example"])
def test_any_other_machine_is_not_local(host: object) -> None:
    assert not is_local(host)


def test_a_connection_to_another_machine_is_refused_before_it_is_tried() -> None:
    with socket.socket() as client, pytest.raises(NetworkForbidden, match=r"192\.0\.2\.1"):
        client.connect(("192.0.2.1", 80))


def test_a_name_of_another_machine_is_not_looked_up() -> None:
    with pytest.raises(NetworkForbidden, match=r"raa\.example"):
        socket.getaddrinfo("raa.example", 80)
