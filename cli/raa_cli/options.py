"""The options that commands share, so that they mean the same everywhere."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class BusName(StrEnum):
    """Which bus."""

    EMBEDDED = "embedded"
    KAFKA = "kafka"


class Switch(StrEnum):
    """On or off."""

    ON = "on"
    OFF = "off"


class Level(StrEnum):
    """From which level on lines are logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


Data = Annotated[
    Path, typer.Option("--data", envvar="RAA_DATA", file_okay=False, help="Folder that the stack keeps its data in.")
]
Bus = Annotated[BusName, typer.Option("--bus", envvar="RAA_BUS", help="embedded: in the data folder.")]
Tenant = Annotated[str, typer.Option("--tenant", help="Whose tasks and lessons.")]
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON: one object, or one per line; an error too, on standard error.")
]
Tools = Annotated[list[Path] | None, typer.Option("--tools", help="Python file with tools of your own; repeatable.")]
Model = Annotated[str | None, typer.Option("--model", help="Model to plan with; `raa model ls` lists them.")]
LogLevel = Annotated[Level, typer.Option("--log-level", help="What is logged, as JSON lines on standard error.")]
TaskName = Annotated[str, typer.Argument(metavar="TASK", help="The task's id.")]

DATA = Path("raa-data")
TENANT = "default"
