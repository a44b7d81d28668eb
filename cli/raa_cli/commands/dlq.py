"""Commands about dead letters: ls, show, redrive, edit, drop."""

from pathlib import Path
from typing import Annotated

import typer

from raa_cli import options
from raa_cli.options import Bus, BusName, Data, Json

cli = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Group = Annotated[str | None, typer.Option("--group", help="Those of one group, for example planner.")]
Fingerprint = Annotated[str | None, typer.Option("--fingerprint", help="Those of one cause.")]
Ids = Annotated[list[str] | None, typer.Option("--id", help="One letter by its id; repeatable.")]
AnyTenant = Annotated[str | None, typer.Option("--tenant", help="Those of one tenant.")]
Task = Annotated[str | None, typer.Option("--task", help="Those of one task.")]
Why = Annotated[str, typer.Option("--why", help="Why, for whoever reads it later.")]
AsNewTask = Annotated[bool, typer.Option("--as-new-task", help="Do the ended task again, under a new id.")]
Again = Annotated[bool, typer.Option("--again", help="Also those that were decided about already.")]
Wait = Annotated[float, typer.Option("--wait", min=0, help="Seconds to wait for what the groups make of it.")]


@cli.command("ls")
def ls(
    group: Group = None,
    tenant: AnyTenant = None,
    task: Task = None,
    only_open: Annotated[bool, typer.Option("--open", help="Only those that wait for somebody.")] = False,
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    as_json: Json = False,
) -> None:
    """List the causes by which records died: how many, where, since when, and how many wait for somebody."""
    from raa_cli.dlq import lists
    from raa_cli.dlq.scan import Wanted
    from raa_cli.execute import execute
    from raa_cli.session import Place

    wanted = Wanted(group=group, tenant=tenant, task=task, only_open=only_open)
    execute(lambda: lists.ls(Place(data, bus), wanted, as_json=as_json))


@cli.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="ID|FINGERPRINT", help="A letter, or a cause.")],
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    as_json: Json = False,
) -> None:
    """Show a dead letter in full, without its secrets; of a cause the newest one."""
    from raa_cli.dlq import lists
    from raa_cli.execute import execute
    from raa_cli.session import Place

    execute(lambda: lists.show(Place(data, bus), name, as_json=as_json))


@cli.command("redrive")
def redrive(
    group: Group = None,
    fingerprint: Fingerprint = None,
    ids: Ids = None,
    tenant: AnyTenant = None,
    task: Task = None,
    rate: Annotated[str, typer.Option("--rate", help="Letters per second, for example 10/s.")] = "50/s",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be sent, in its order.")] = False,
    as_new_task: AsNewTask = False,
    again: Again = False,
    why: Why = "",
    wait: Wait = 10.0,
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    as_json: Json = False,
) -> None:
    """Send dead letters back to the group they died in, each once and in their order. Exits 0, 1 or 2."""
    from raa_cli.dlq import decide
    from raa_cli.dlq.how import How, rate_of
    from raa_cli.dlq.scan import Wanted
    from raa_cli.execute import execute
    from raa_cli.session import Place

    async def work() -> int:
        wanted = Wanted(group, fingerprint, frozenset(ids or ()), tenant, task)
        how = How(rate_of(rate), dry_run, as_new_task, again, why, wait)
        return await decide.redrive(Place(data, bus), wanted, how, as_json=as_json)

    execute(work)


@cli.command("edit")
def edit(
    name: Annotated[str, typer.Argument(metavar="ID", help="The letter.")],
    value: Annotated[Path | None, typer.Option("--value", help="File with the new value; else $EDITOR opens.")] = None,
    as_new_task: AsNewTask = False,
    again: Again = False,
    why: Why = "",
    wait: Wait = 10.0,
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    as_json: Json = False,
) -> None:
    """Correct the value of a dead event and send it back as a new event, which cites the old one."""
    from raa_cli.dlq import edit as editing
    from raa_cli.dlq.how import How
    from raa_cli.execute import execute
    from raa_cli.session import Place

    how = How(as_new_task=as_new_task, again=again, why=why, wait=wait)
    execute(lambda: editing.edit(Place(data, bus), name, value, how, as_json=as_json))


@cli.command("drop")
def drop(
    why: Annotated[str, typer.Option("--why", help="Why nobody will redrive them; stays with them.")],
    group: Group = None,
    fingerprint: Fingerprint = None,
    ids: Ids = None,
    tenant: AnyTenant = None,
    task: Task = None,
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    as_json: Json = False,
) -> None:
    """Give dead letters up, of all tenants unless one is named; the tasks they hold up end as failed."""
    from raa_cli.dlq import decide
    from raa_cli.dlq.scan import Wanted
    from raa_cli.execute import execute
    from raa_cli.session import Place

    wanted = Wanted(group, fingerprint, frozenset(ids or ()), tenant, task)
    execute(lambda: decide.drop(Place(data, bus), wanted, why, as_json=as_json))
