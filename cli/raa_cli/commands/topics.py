"""Commands about the bus: list, apply, tail, grow."""

from typing import Annotated

import typer

from raa_cli import options
from raa_cli.options import Bus, BusName, Data, Json, Model, Tools

cli = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@cli.command("list")
def ls(data: Data = options.DATA, bus: Bus = BusName.EMBEDDED, as_json: Json = False) -> None:
    """List the topics: who writes and reads them, and whether they are there."""
    from raa_cli import topics
    from raa_cli.execute import execute
    from raa_cli.session import Place

    execute(lambda: topics.ls(Place(data, bus), as_json=as_json))


@cli.command("apply")
def apply(data: Data = options.DATA, bus: Bus = BusName.EMBEDDED, as_json: Json = False) -> None:
    """Create the topics that are missing."""
    from raa_cli import topics
    from raa_cli.execute import execute
    from raa_cli.session import Place

    execute(lambda: topics.apply(Place(data, bus), as_json=as_json))


@cli.command("tail")
def tail(
    topics: Annotated[list[str], typer.Argument(metavar="TOPIC...", help="For example task.done planner.dlq.")],
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="All that is kept, then what comes.")
    ] = False,
    task: Annotated[str | None, typer.Option("--task", help="Only records of this task.")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="Only records of this tenant; else of all.")] = None,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for what comes.")] = True,
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    as_json: Json = False,
) -> None:
    """Print the records of topics as they come, until Ctrl-C; one line of attributes, one with the value."""
    from raa_cli import topics as actions
    from raa_cli.execute import execute
    from raa_cli.session import Place

    execute(
        lambda: actions.tail(
            Place(data, bus),
            topics,
            task=task,
            tenant=tenant,
            from_beginning=from_beginning,
            follow=follow,
            as_json=as_json,
        )
    )


@cli.command("grow")
def grow(
    partitions: Annotated[int, typer.Option("--partitions", min=2, max=1_000, help="Partitions of each topic.")],
    drain: Annotated[
        bool, typer.Option("--drain", help="Embedded: first work off what waits, with a stack of its own.")
    ] = False,
    tools: Tools = None,
    model: Model = None,
    ignore: Annotated[
        list[str] | None, typer.Option("--ignore-group", help="A group whose backlog may lose its order; repeatable.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done, and what forbids it.")
    ] = False,
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    as_json: Json = False,
) -> None:
    """Give all topics of events more partitions: drain, grow, resume. Exits 1 while anything runs or waits.

    Keys move to other partitions, so that the order of a task's records holds only if all of them have been read and
    nobody writes meanwhile: stop the clients, wait until `raa lag` shows nothing, stop the services, grow, start again.
    """
    from raa_cli import growth
    from raa_cli.execute import execute
    from raa_cli.session import Place

    wanted = growth.Growth(partitions, frozenset(ignore or ()), drain=drain, dry_run=dry_run)
    execute(lambda: growth.grow(Place(data, bus), wanted, tools=tools or (), model=model, as_json=as_json))
