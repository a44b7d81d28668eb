"""Commands about the bus: list, apply, tail."""

from typing import Annotated

import typer

from raa_cli import options
from raa_cli.options import Bus, BusName, Data, Json

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
    topic: Annotated[str, typer.Argument(metavar="TOPIC", help="For example task.done.")],
    from_beginning: Annotated[
        bool, typer.Option("--from-beginning", help="All that is kept, then what comes.")
    ] = False,
    follow: Annotated[bool, typer.Option("--follow/--no-follow", help="Wait for what comes.")] = True,
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    as_json: Json = False,
) -> None:
    """Print the records of a topic as they come."""
    from raa_cli import topics
    from raa_cli.execute import execute
    from raa_cli.session import Place

    execute(lambda: topics.tail(Place(data, bus), topic, from_beginning=from_beginning, follow=follow, as_json=as_json))
