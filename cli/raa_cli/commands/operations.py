"""The command that shows what waits where: lag."""

import sys
from typing import Annotated

import typer

from raa_cli import options
from raa_cli.options import Bus, BusName, Data, Json


def register(cli: typer.Typer) -> None:
    """Add the command."""
    cli.command()(lag)


def lag(
    group: Annotated[list[str] | None, typer.Option("--group", help="Only this consumer group; repeatable.")] = None,
    at: Annotated[
        list[str] | None,
        typer.Option("--at", help="Address of a service's HTTP, http://host:port; repeatable, all instances."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also partitions that are worked off.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until Ctrl-C.")] = False,
    every: Annotated[float, typer.Option("--every", min=0.2, help="Seconds between two looks.")] = 2.0,
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    as_json: Json = False,
) -> None:
    """Show what waits: per group, topic and partition, in the planner's queue, and at the executors."""
    from raa_cli import lag
    from raa_cli.execute import execute
    from raa_cli.session import Place

    execute(
        lambda: lag.lag(
            Place(data, bus),
            group or (),
            at or (),
            everything=everything,
            watch_seconds=every if watch else None,
            as_json=as_json,
            terminal=sys.stdout.isatty(),
        )
    )
