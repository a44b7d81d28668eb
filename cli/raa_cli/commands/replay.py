"""Commands that replay recorded tasks: replay, whatif."""

from pathlib import Path
from typing import Annotated

import typer

from raa_cli import options
from raa_cli.options import Bus, BusName, Data, Json, Tenant, Tools

Since = Annotated[str | None, typer.Option("--from", help="Tasks created from then on, as in 2026-01-31T12:00:00Z.")]
Until = Annotated[str | None, typer.Option("--to", help="Tasks created before then.")]
Coverage = Annotated[
    float, typer.Option("--min-coverage", min=0, max=1, help="Share of the tasks that must be compared.")
]


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    cli.command()(replay)
    cli.command()(whatif)
    cli.command("replay-case", hidden=True)(replay_case)


def replay(
    task: Annotated[list[str] | None, typer.Option("--task", metavar="ID", help="This task; repeatable.")] = None,
    since: Since = None,
    until: Until = None,
    min_coverage: Coverage = 1.0,
    tools: Tools = None,
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    tenant: Tenant = options.TENANT,
    as_json: Json = False,
) -> None:
    """Run recorded tasks again in a sandbox, and compare every decision. Exits 0 if all are as recorded, 1 or 2."""
    from raa_cli.execute import execute
    from raa_cli.replay.change import Change
    from raa_cli.replay.run import Asked, replay
    from raa_cli.replay.selection import Selection
    from raa_cli.session import Place

    async def work() -> int:
        chosen = Selection.read(task or (), since, until)
        return await replay(
            Asked(Place(data, bus, tenant), chosen, Change(), tools or (), min_coverage, as_json=as_json)
        )

    execute(work)


def whatif(
    tasks: Annotated[list[str] | None, typer.Argument(metavar="TASK…", help="Recorded tasks.")] = None,
    without_lesson: Annotated[str | None, typer.Option("--without-lesson", help="Withhold this lesson.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="Plan with this model.")] = None,
    policy: Annotated[Path | None, typer.Option("--policy", help="Judge by this policy file of safety's.")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Version of the planner's prompt, or a file.")] = None,
    version: Annotated[
        str | None, typer.Option("--version", help="Another release: virtual environment, source tree or image.")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option("--allow", help="model: ask models anew; reads: run tools that only read. Separated by commas."),
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option("--gate", help="What must hold, as in success>=0, cost<=100, latency<=50, changed<=0."),
    ] = None,
    since: Since = None,
    until: Until = None,
    min_coverage: Coverage = 1.0,
    tools: Tools = None,
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    tenant: Tenant = options.TENANT,
    as_json: Json = False,
) -> None:
    """Replay recorded tasks with one thing changed: what would have become of them? Exits 0, 1 or 2, as a gate."""
    from raa_cli.execute import execute
    from raa_cli.replay.change import read_change
    from raa_cli.replay.run import Asked, read_gates, whatif
    from raa_cli.replay.selection import Selection
    from raa_cli.session import Place

    async def work() -> int:
        given = {"lesson": without_lesson, "model": model, "policy": policy, "prompt": prompt, "version": version}
        change = read_change({kind: str(value) for kind, value in given.items() if value is not None}, allow or ())
        chosen = Selection.read(tasks or (), since, until)
        place = Place(data, bus, tenant)
        return await whatif(Asked(place, chosen, change, tools or (), min_coverage, read_gates(gate or ()), as_json))

    execute(work)


def replay_case(folder: Annotated[Path, typer.Argument(help="Folder of a job that another release wrote.")]) -> None:
    """Play a job of another release's `raa whatif --version`."""
    from raa_cli.execute import execute
    from raa_cli.replay.elsewhere import perform

    execute(lambda: perform(folder))
