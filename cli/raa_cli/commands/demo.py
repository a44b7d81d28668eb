"""The command that shows what the agent can do: demo."""

from pathlib import Path
from typing import Annotated

import typer

from raa_cli.options import Json, Level, LogLevel, Model


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(demo)


def demo(
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="Runs 1 to 3 on a file generated from it.")] = None,
    model: Model = None,
    data: Annotated[Path | None, typer.Option("--data", help="Folder to keep; a new one by default.")] = None,
    log_level: LogLevel = Level.ERROR,
    as_json: Json = False,
) -> None:
    """Run real tasks on real files, live, and compare them with the truth. Exits 0 only if every line is right."""
    from raa_cli.demo import play
    from raa_cli.execute import execute

    execute(lambda: play.demo(seed=seed, model=model, data=data, log_level=log_level, as_json=as_json))
