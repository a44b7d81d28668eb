"""Runs what a command does; what it raises on purpose becomes one line and an exit code."""

import sys
from collections.abc import Callable, Coroutine
from typing import Any, Final

import typer

from raa_cli.telling import tell
from raa_client.errors import InputUnusable
from raa_runtime.errors import Misconfigured, RaaError
from raa_runtime.main import run_loop
from raa_runtime.telemetry import configure_logging

FAILED: Final = 1
USAGE: Final = 2


class UsageProblem(Misconfigured):
    """The command was called in a way that cannot work."""


class CommandFailed(RaaError):
    """The command did not do what it was asked to do."""


def execute(work: Callable[[], Coroutine[Any, Any, int | None]]) -> None:
    """Run a command to its end; raises typer.Exit with 0, 1 for a failure or 2 for a mistake in its use."""
    configure_logging("error")  # commands that run services choose for themselves
    try:
        code = run_loop(work()) or 0
    except (Misconfigured, InputUnusable) as problem:
        code = tell(str(problem), USAGE, type(problem).__name__)
    except RaaError as problem:
        code = tell(str(problem), FAILED, type(problem).__name__)
    except BrokenPipeError:
        sys.stderr.close()  # whoever read us has gone; nobody is left to tell
        code = FAILED
    raise typer.Exit(code)
