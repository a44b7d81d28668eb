"""Forbid the network to the tests' own process: whatever a test needs runs on this machine."""

import ipaddress
from types import ModuleType

_LOCAL_NAMES = frozenset({"localhost", "", "0.0.0.0", "::"})


class NetworkForbidden(RuntimeError):
    """A test reached for another machine; start what it needs on 127.0.0.1 (see tests/backends)."""


def is_local(host: object) -> bool:
    """Tell whether a host, as sockets name it, is this machine."""
    if host is None:
        return True
    name = host.decode(errors="replace") if isinstance(host, bytes) else str(host)
    if name in _LOCAL_NAMES:
        return True
    try:
        return ipaddress.ip_address(name.split("%")[0]).is_loopback
    except ValueError:
        return False


def forbid_network(system: ModuleType) -> None:
    """Refuse name look-ups and connections beyond loopback, for good: an audit hook cannot be taken back.

    Sees what goes through Python's sockets; a client in C or Rust is only seen by its results.
    """
    system.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[object, ...]) -> None:
    if event == "socket.getaddrinfo":
        host: object = arguments[0]
    elif event in {"socket.connect", "socket.sendto"}:
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # a path is a local socket
    else:
        return
    if not is_local(host):
        message = f"{event} to {host!r}: {NetworkForbidden.__doc__}"
        raise NetworkForbidden(message)
