"""Says where a task stands: its newest task.status with its until when, and the endpoint a plan waits for."""

from typing import Any
from urllib.parse import quote

from raa_cli.output import print_json
from raa_cli.session import Place, configured_url, owner, reading
from raa_cli.telling import printable
from raa_cli.web import ask
from raa_runtime.errors import RaaError
from raa_schemas.task import TaskDone, TaskStatus

ASK_SECONDS = 3.0


async def status(place: Place, task_id: str, *, as_json: bool) -> None:
    """Print it."""
    async with reading(place) as session:
        events = [observed.event for observed in await session.client.history(task_id)]
        offline = session.offline
    told = next((event for event in reversed(events) if isinstance(event, TaskStatus)), None)
    done = next((event for event in events if isinstance(event, TaskDone)), None)
    waits, problem = ([], None) if done or offline else await _models(place, task_id)
    waiting = told if told and told.waiting_for and not done else None
    until = waiting.waiting_until if waiting else None
    said: dict[str, Any] = {
        "task_id": task_id,
        "state": done.outcome if done else told.state if told else "submitted",
        "waiting_for": waiting.waiting_for if waiting else None,
        "waiting_until": until.isoformat() if until else None,
        "models": waits,
        "running": not offline,
    }
    if as_json:
        print_json(said | {"problem": problem})
        return
    print(f"{task_id} {said['state'].replace('_', ' ')}")
    if said["waiting_for"]:
        print(f"  waits for {printable(said['waiting_for'])}")
    if until:
        print(f"  until     {until:%Y-%m-%d %H:%M:%S} UTC")
    for one in waits:
        print(f"  model     {printable(one)}")
    if problem:
        print(f"  not asked {printable(problem)}")
    if offline and not done:
        print(f"  no stack runs; it goes on with `raa up --data {place.data}`")


async def _models(place: Place, task_id: str) -> tuple[list[str], str | None]:
    """Ask the router what the task waits for; a router that cannot be asked is said."""
    info = await owner(place.data)
    url = info["urls"].get("router") if info else None
    try:
        path = f"/v1/tasks/{quote(task_id, safe='')}/waiting"
        answer = await ask(url or configured_url("router"), path, tenant=place.tenant, seconds=ASK_SECONDS)
    except RaaError as problem:
        return [], str(problem)
    return list(answer["waiting_for"]), None
