"""Commands about tasks: run, submit, watch, result, cancel, approve, deny."""

from pathlib import Path
from typing import Annotated

import typer

from raa_cli import options
from raa_cli.options import Bus, BusName, Data, Json, Level, LogLevel, Model, Switch, TaskName, Tenant, Tools

Goal = Annotated[str, typer.Argument(metavar="GOAL", help="What is wanted, in words.")]
Input = Annotated[list[Path] | None, typer.Option("--input", help="File to attach; repeatable.")]
Check = Annotated[str | None, typer.Option("--check", help='What must hold, for example "result >= 0".')]
PlanFile = Annotated[Path | None, typer.Option("--plan", help="JSON file with a ready-made plan; skips the model.")]
Memory = Annotated[Switch, typer.Option("--memory", help="off neither recalls nor learns.")]
Budget = Annotated[str | None, typer.Option("--budget", help="US dollars the task may cost, for example 0.30.")]
Deadline = Annotated[float | None, typer.Option("--deadline", help="Seconds the task may take.")]
Attempts = Annotated[int | None, typer.Option("--attempts", help="Plans that may be executed, 1 to 20.")]
TaskId = Annotated[str | None, typer.Option("--task-id", help="The task's id; a second use returns the first task.")]
Save = Annotated[Path | None, typer.Option("--save", help="Folder to copy the task's files to.")]
Reason = Annotated[str, typer.Option("--reason", help="Why, for whoever reads it later.")]
Step = Annotated[str, typer.Argument(metavar="STEP", help="The step that waits.")]


def register(cli: typer.Typer) -> None:
    """Add the commands."""
    for command in (run, submit, status, watch, result, cancel, approve, deny):
        cli.command()(command)


def run(
    goal: Goal,
    inputs: Input = None,
    check: Check = None,
    plan: PlanFile = None,
    memory: Memory = Switch.ON,
    model: Model = None,
    budget: Budget = None,
    deadline: Deadline = None,
    attempts: Attempts = None,
    tools: Tools = None,
    save: Save = None,
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    tenant: Tenant = options.TENANT,
    log_level: LogLevel = Level.ERROR,
    as_json: Json = False,
) -> None:
    """Run a task to its end; starts a stack itself when none runs on the data folder. Exits 0, 1 or 2."""
    from raa_cli import tasks
    from raa_cli.execute import execute
    from raa_cli.session import Place

    wanted = tasks.Wanted(goal, inputs or (), check, plan, memory, budget, deadline, attempts)
    execute(
        lambda: tasks.run(
            Place(data, bus, tenant),
            wanted,
            tools=tools or (),
            model=model,
            log_level=log_level,
            save=save,
            as_json=as_json,
        )
    )


def submit(
    goal: Goal,
    inputs: Input = None,
    check: Check = None,
    plan: PlanFile = None,
    memory: Memory = Switch.ON,
    budget: Budget = None,
    deadline: Deadline = None,
    attempts: Attempts = None,
    task_id: TaskId = None,
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    tenant: Tenant = options.TENANT,
    as_json: Json = False,
) -> None:
    """Hand a task to what runs, and print its id."""
    from raa_cli import tasks
    from raa_cli.execute import execute
    from raa_cli.session import Place

    wanted = tasks.Wanted(goal, inputs or (), check, plan, memory, budget, deadline, attempts, task_id)
    execute(lambda: tasks.submit(Place(data, bus, tenant), wanted, as_json=as_json))


def status(
    task: TaskName,
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    tenant: Tenant = options.TENANT,
    as_json: Json = False,
) -> None:
    """Say where a task stands and what it waits for, down to the model's address."""
    from raa_cli import status
    from raa_cli.execute import execute
    from raa_cli.session import Place

    execute(lambda: status.status(Place(data, bus, tenant), task, as_json=as_json))


def watch(
    task: TaskName,
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    tenant: Tenant = options.TENANT,
    as_json: Json = False,
) -> None:
    """Print a task's events from its first one, until it ends."""
    from raa_cli import tasks
    from raa_cli.execute import execute
    from raa_cli.session import Place

    execute(lambda: tasks.watch(Place(data, bus, tenant), task, as_json=as_json))


def result(
    task: TaskName,
    save: Save = None,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Seconds to wait for a running task.")] = None,
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    tenant: Tenant = options.TENANT,
    as_json: Json = False,
) -> None:
    """Print how a task ended, waiting for it while it runs; exits as run does."""
    from raa_cli import tasks
    from raa_cli.execute import execute
    from raa_cli.session import Place

    execute(lambda: tasks.result(Place(data, bus, tenant), task, timeout_seconds=timeout, save=save, as_json=as_json))


def cancel(
    task: TaskName,
    reason: Reason = "",
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    tenant: Tenant = options.TENANT,
    as_json: Json = False,
) -> None:
    """Ask for the end of a task."""
    from raa_cli import tasks
    from raa_cli.execute import execute
    from raa_cli.session import Place

    execute(lambda: tasks.cancel(Place(data, bus, tenant), task, reason, as_json=as_json))


def approve(
    task: TaskName,
    step: Step,
    reason: Reason = "",
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    tenant: Tenant = options.TENANT,
    as_json: Json = False,
) -> None:
    """Let a waiting step run; or say that its action did happen, if that is the question."""
    from raa_cli import approvals
    from raa_cli.execute import execute
    from raa_cli.session import Place

    execute(
        lambda: approvals.decide(Place(data, bus, tenant), task, step, reason, yes=True, give_up=False, as_json=as_json)
    )


def deny(
    task: TaskName,
    step: Step,
    reason: Reason = "",
    give_up: Annotated[bool, typer.Option("--give-up", help="Nobody can find out whether it happened.")] = False,
    data: Data = options.DATA,
    bus: Bus = BusName.EMBEDDED,
    tenant: Tenant = options.TENANT,
    as_json: Json = False,
) -> None:
    """Refuse a waiting step; or say that its action did not happen, if that is the question."""
    from raa_cli import approvals
    from raa_cli.execute import execute
    from raa_cli.session import Place

    execute(
        lambda: approvals.decide(
            Place(data, bus, tenant), task, step, reason, yes=False, give_up=give_up, as_json=as_json
        )
    )
