"""Corrects the value of a dead event and sends it to its group as a new event that cites the old one."""

import os
import shlex
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from raa_cli.dlq.again import Again, ended_tasks
from raa_cli.dlq.decide import Report, Sender, author, decided_before, outcomes, picked, refusal
from raa_cli.dlq.how import How
from raa_cli.dlq.scan import Wanted
from raa_cli.execute import FAILED, CommandFailed, UsageProblem
from raa_cli.session import Place
from raa_client.client import Client
from raa_client.observed import observe
from raa_runtime.deadletters import Letter
from raa_runtime.intake import Addressed, Intake, read_body
from raa_runtime.redrive import Decision, edited
from raa_schemas.envelope import InvalidEventError
from raa_schemas.tenants import IntakePolicy
from raa_schemas.topics import TOPICS


async def edit(place: Place, name: str, value: Path | None, how: How, *, as_json: bool) -> int:
    """Send a corrected event; 1 if it was refused or died again, 2 if the new value is no valid event."""
    report, settings = Report(as_json), place.settings()
    async with picked(place, Wanted(ids=frozenset({name}))) as (session, picks):
        [pick] = picks.listed
        letter = picks.letter(pick)
        if letter.kind not in {"record", "deferred"}:
            raise UsageProblem(f"{name} is no event but of kind {letter.kind}; redrive it as it is")
        if told := decided_before(pick, how):
            report.tell(pick, *told, loud=True)
            return FAILED
        intake = Intake(settings.deployment, IntakePolicy(settings.allow_anonymous, settings.tenants))
        addressed = validated(letter, corrected(letter, value), intake)
        if how.as_new_task and addressed.topic.name != "task.created":
            raise UsageProblem(f"a {addressed.topic.name} is no task; `raa dlq redrive --id {name} --as-new-task`")
        pick = replace(pick, tenant=addressed.tenant, task=addressed.envelope.subject)
        ended = await ended_tasks(session.client.bus, settings.deployment, {(pick.tenant, pick.task)})
        if told := refusal(pick, ended, how):
            report.tell(pick, *told, loud=True)
            return FAILED
        begun = datetime.now(UTC)
        fresh = edited(letter, replace(addressed.envelope, tenant=addressed.tenant), addressed.body)
        into = await _anew(session.client, letter, fresh) if how.as_new_task else None
        decision = Decision("edit", author(), datetime.now(UTC), how.why, into)
        await Sender(place, session.client.bus, how.rate).send(letter if into else fresh, decision)
        report.tell(pick, "sent", f"as task {into}" if into else "", loud=True)
        bad = await outcomes(session, settings.deployment, {} if into else {pick.id: pick}, begun, how.wait, report)
    report.close(1)
    return FAILED if bad else 0


async def _anew(client: Client, letter: Letter, fresh: Letter) -> str:
    observed = observe(fresh.record, client.deployment)
    if observed is None:
        raise UsageProblem("the new value is no task; write a goal")
    return await Again(client).submit(observed, letter)


def validated(letter: Letter, value: bytes, intake: Intake) -> Addressed:
    """Read the corrected event as its group will; raises UsageProblem with what is still wrong."""
    headers = tuple((name, raw) for name, raw in letter.headers if _is_text(raw))
    try:
        addressed = intake.address(replace(letter.record, value=value, headers=headers))
        read_body(addressed)
    except KeyError:
        raise UsageProblem(f"{letter.topic} is no topic of events; there are {', '.join(TOPICS)}") from None
    except InvalidEventError as problem:
        raise UsageProblem(f"the new value is still no valid event: {problem}") from None
    return addressed


def _is_text(raw: bytes | None) -> bool:
    try:
        (raw or b"").decode()
    except UnicodeDecodeError:
        return False
    return True


def corrected(letter: Letter, value: Path | None) -> bytes:
    """Give the new value: a file's, or what the person makes of the old one in their editor."""
    if value is not None:
        try:
            return value.read_bytes()
        except OSError as problem:
            raise UsageProblem(f"--value {value} cannot be read: {problem.strerror}") from None
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR")
    if not command:
        raise UsageProblem("EDITOR is not set; set it, or give the new value with --value FILE")
    with TemporaryDirectory(prefix="raa-edit-") as folder:
        path = Path(folder) / f"{letter.id}.json"
        path.write_bytes(letter.value or b"")
        path.chmod(0o600)
        try:
            done = subprocess.run([*shlex.split(command), str(path)], check=False)  # noqa: S603  # their own editor
        except OSError as problem:
            raise UsageProblem(f"the editor {command!r} cannot be started: {problem.strerror}") from None
        if done.returncode != 0:
            raise CommandFailed(f"the editor ended with {done.returncode}; nothing was sent")
        new = path.read_bytes()
    if new == (letter.value or b""):
        raise CommandFailed("nothing was changed, so nothing was sent; `raa dlq redrive` sends it as it is")
    return new
