"""The command that runs the services: up."""

from typing import Annotated

import typer

from raa_cli import options
from raa_cli.options import Bus, BusName, Data, Json, Level, LogLevel, Model, Tools


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(up)


def up(
    services: Annotated[
        str | None, typer.Option("--services", help="Only these, separated by commas; on Kafka.")
    ] = None,
    bus: Bus = BusName.EMBEDDED,
    data: Data = options.DATA,
    tools: Tools = None,
    model: Model = None,
    log_level: LogLevel = Level.INFO,
    as_json: Json = False,
) -> None:
    """Run the services until SIGTERM or Ctrl-C. Steps nobody may repeat then finish; others go on at the next start."""
    from raa_cli import up
    from raa_cli.execute import execute
    from raa_cli.session import Place

    execute(
        lambda: up.up(
            Place(data, bus), services=services, tools=tools or (), model=model, log_level=log_level, as_json=as_json
        )
    )
