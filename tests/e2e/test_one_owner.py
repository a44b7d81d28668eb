"""One data folder has one owner, whoever comes second is told who that is."""

import subprocess

from tests.e2e.house import House


def test_a_service_started_twice_on_one_data_folder_is_told_the_pid(separate: House) -> None:
    command, environment = separate.command_of("memory-1")
    again = subprocess.run(
        command, env=environment | {"RAA_HTTP_PORT": "0"}, capture_output=True, text=True, timeout=60, check=False
    )
    assert again.returncode == 2
    assert f"process {separate.pid_of('memory-1')} already runs the service memory" in again.stderr
    assert "Traceback" not in again.stderr
