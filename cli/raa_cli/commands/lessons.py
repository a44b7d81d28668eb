"""Commands about what happened and what was learned: show, lessons."""

from pathlib import Path
from typing import Annotated

import typer

from raa_cli import options
from raa_cli.options import Bus, BusName, Data, Json, TaskName, Tenant


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command()(show)
    cli.command()(lessons)


def show(
    task: TaskName,
    html: Annotated[Path | None, typer.Option("--html", help="Write one self-contained page.")] = None,
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    tenant: Tenant = options.TENANT,
    as_json: Json = False,
) -> None:
    """Tell a task's story: plans, steps, lessons, safety's decisions, why each attempt ended."""
    from raa_cli import show
    from raa_cli.execute import execute
    from raa_cli.session import Place

    execute(lambda: show.show(Place(data, bus, tenant), task, html, as_json=as_json))


def lessons(
    data: Data = options.DATA, bus: Bus = BusName.EMBEDDED, tenant: Tenant = options.TENANT, as_json: Json = False
) -> None:
    """List what the agent knows, with the evidence."""
    from raa_cli import show
    from raa_cli.execute import execute
    from raa_cli.session import Place

    execute(lambda: show.lessons(Place(data, bus, tenant), as_json=as_json))
