"""Redrives and drops dead letters: each decision is a record on the bus, which the letter's group acts on."""

import asyncio
import contextlib
import getpass
import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from raa_cli.dlq.again import Again, ended_tasks
from raa_cli.dlq.how import How
from raa_cli.dlq.picks import Pick, Picks
from raa_cli.dlq.scan import Wanted, letters, standings
from raa_cli.execute import FAILED, CommandFailed, UsageProblem
from raa_cli.output import note, print_json
from raa_cli.session import Place, Session, reading
from raa_cli.telling import printable
from raa_client.observed import observe
from raa_client.observed import reading as reading_topics
from raa_runtime.bus.port import Bus, Message
from raa_runtime.deadletters import STALLS_TASKS, CorruptLetter, Letter, read_letter
from raa_runtime.errors import ClaimGone
from raa_runtime.intake import Intake
from raa_runtime.masking import masked_text
from raa_runtime.redrive import Action, Decision, order_message
from raa_runtime.topics import topic_specs
from raa_schemas.envelope import InvalidEventError
from raa_schemas.ids import owned
from raa_schemas.redrive import RedriveDone
from raa_schemas.tenants import IntakePolicy
from raa_schemas.topics import TOPICS, dead_letter_topic, topic_of

TICK_SECONDS: Final = 0.1
MOST_NAMED: Final = 20
_BAD: Final = frozenset({"refused", "failed"})


@dataclass
class Report:
    """What a command did, one line for each letter that needs a word, and counts at the end."""

    as_json: bool
    counts: dict[str, int] = field(default_factory=dict)

    def tell(self, pick: Pick, result: str, reason: str = "", *, counts: bool = True, loud: bool = False) -> None:
        """Note what happened to a letter."""
        if counts:
            self.counts[result] = self.counts.get(result, 0) + 1
        if self.as_json:
            print_json({"letter": pick.id, "group": pick.group, "task": pick.task, "result": result,
                        "reason": masked_text(reason)})  # fmt: skip
        elif loud:
            line = f"{pick.id}  {pick.group:<10} {_origin(pick):<28} {result}{f': {reason}' if reason else ''}"
            print(printable(masked_text(" ".join(line.splitlines()))))

    def close(self, of: int) -> None:
        """Print the counts."""
        if not self.as_json:
            told = ", ".join(f"{count} {name}" for name, count in self.counts.items())
            print(f"{of} letter{'' if of == 1 else 's'}: {told or 'nothing to do'}")


def _origin(pick: Pick) -> str:
    return f"{pick.topic}/{pick.partition}@{pick.offset}" if pick.partition >= 0 else pick.topic


def author() -> str:
    """Name who decides: the user and the machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"


@asynccontextmanager
async def picked(place: Place, wanted: Wanted) -> AsyncIterator[tuple[Session, Picks]]:
    """Open what runs, or the folder as the last stack left it, and pick the letters; raises CommandFailed if none."""
    settings = place.settings()
    async with reading(place) as session:
        if session.offline:
            await session.client.bus.apply_topics(topic_specs(settings))
        decided = await standings(session.client.bus, settings.deployment)
        with Picks() as picks:
            async with aclosing(letters(session.client.bus, settings.deployment, wanted, decided)) as found:
                await picks.fill(found)
            if not picks.listed:
                corrupt = f"; {len(picks.corrupt)} corrupt ones cannot be sent back" if picks.corrupt else ""
                raise CommandFailed(f"no dead letter matches{corrupt}; `raa dlq ls` lists them")
            yield session, picks


class Sender:
    """Publish decisions for one deployment, at a bounded rate."""

    def __init__(self, place: Place, bus: Bus, rate: float) -> None:
        settings = place.settings()
        self._bus, self._deployment = bus, settings.deployment
        self._rate = rate
        self._intake = Intake(settings.deployment, IntakePolicy(settings.allow_anonymous, settings.tenants))
        self._started: float | None = None
        self._sent = 0

    async def send(self, letter: Letter, decision: Decision) -> None:
        """Publish a decision, durably; raises what the bus says."""
        await self._pace()
        await publish(
            self._bus,
            order_message(letter, decision, deployment=self._deployment, aggregate=self.aggregate_of(letter)),
        )

    def aggregate_of(self, letter: Letter) -> str | None:
        """Name the aggregate whose letters have to stay in order."""
        if letter.kind not in {"record", "deferred"}:
            return None
        try:
            return self._intake.address(letter.record).aggregate
        except (InvalidEventError, KeyError):
            return None

    async def _pace(self) -> None:
        now = asyncio.get_running_loop().time()
        self._started = self._started or now
        self._sent += 1
        ahead = (self._sent - 1) / self._rate - (now - self._started)
        if ahead > TICK_SECONDS:
            await asyncio.sleep(ahead)


async def publish(bus: Bus, message: Message) -> None:
    """Publish one message; raises what the bus says."""
    (problem,) = await bus.publish([message])
    if problem is not None:
        raise problem


async def redrive(place: Place, wanted: Wanted, how: How, *, as_json: bool) -> int:
    """Send letters back to their groups; 1 if none was sent, or one was refused or died again."""
    _require_choice(wanted, "redrive")
    report = Report(as_json)
    async with picked(place, wanted) as (session, picks):
        bus, deployment = session.client.bus, place.settings().deployment
        ended = await ended_tasks(bus, deployment, {(pick.tenant, pick.task) for pick in picks.listed})
        begun, sent, few = datetime.now(UTC), dict[str, Pick](), len(picks.listed) <= MOST_NAMED
        sender, again = Sender(place, bus, how.rate), Again(session.client)
        for pick in picks.listed:
            told = refusal(pick, ended, how) or (("would be sent", "") if how.dry_run else None)
            if told is None:
                told = await _send(picks.letter(pick), how, sender, again)
                if told[0].startswith("sent"):
                    sent[pick.id] = pick
            report.tell(pick, *told, loud=told[0] != "sent" and (few or not told[0].startswith("already")))
        awaited = {} if how.as_new_task else sent  # a new task is a task like any other
        bad = await outcomes(session, deployment, awaited, begun, how.wait, report)
    report.close(len(picks.listed))
    failed = bad or "refused" in report.counts or not (sent or how.dry_run)
    return FAILED if failed else 0


def _require_choice(wanted: Wanted, verb: str) -> None:
    if not wanted.chooses:
        raise UsageProblem(f"name what to {verb}: --group, --fingerprint, --task or --id")


async def _send(letter: Letter, how: How, sender: Sender, again: Again) -> tuple[str, str]:
    into = None
    if how.as_new_task:
        try:
            into = await again.submit(await again.original(letter), letter)
        except (CommandFailed, ClaimGone) as problem:
            return "refused", str(problem)
    action: Action = "new_task" if how.as_new_task else "redrive"
    await sender.send(letter, Decision(action, author(), datetime.now(UTC), how.why, into))
    return ("sent", "") if into is None else ("sent anew", f"as task {into}")


def refusal(pick: Pick, ended: frozenset[tuple[str, str]], how: How) -> tuple[str, str] | None:
    """Say why a letter is not sent, None if it is."""
    if told := decided_before(pick, how):
        return told
    over = pick.tenant is not None and pick.task is not None and (pick.tenant, pick.task) in ended
    if how.as_new_task:
        return None if over or pick.answered else ("refused", "its task has not ended; leave out --as-new-task")
    if pick.answered and pick.answered == pick.task:
        return "refused", f"task {pick.answered} has ended as rejected; --as-new-task does it again"
    if over and pick.group in STALLS_TASKS and _is_acted_on(pick):
        return "refused", f"task {pick.task} has ended; --as-new-task does it again"
    return None


def decided_before(pick: Pick, how: How, *, forced_by: str = "; --again forces") -> tuple[str, str] | None:
    """Say when somebody decided about a letter before, None if nobody did or it does not matter."""
    standing = pick.standing
    if standing is None or standing.state == "open" or how.again:
        return None
    done = f" and {standing.outcome}" if standing.outcome not in {None, "dropped"} else ""
    at = f"{standing.at:%Y-%m-%d %H:%M:%S}"
    return f"already {standing.state}", f"at {at} by {standing.by}{done}{forced_by}"


def _is_acted_on(pick: Pick) -> bool:
    """Say whether a service would act on it: a copy for a client does no harm after the end."""
    declared = next((topic for name, topic in TOPICS.items() if pick.topic.endswith(name)), None)
    return pick.kind != "outbox" or (declared is not None and bool(declared.readers))


async def outcomes(
    session: Session, deployment: str, sent: dict[str, Pick], begun: datetime, seconds: float, report: Report
) -> bool:
    """Tell what the groups made of it; True if something was refused, died again, or was waited for in vain."""
    if not sent:
        return False
    if session.offline:
        note("no stack runs here: the groups act on it when one starts with `raa up`")
        return False
    waiting, bad = dict(sent), False
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            async with aclosing(_settled(session.client.bus, deployment, sent, begun)) as settled:
                async for name, outcome, reason in settled:
                    if pick := waiting.pop(name, None):
                        bad |= outcome in _BAD
                        report.tell(pick, outcome, reason, loud=outcome in _BAD)
                    if not waiting:
                        break
    if waiting:
        note(f"{len(waiting)} {'is' if len(waiting) == 1 else 'are'} not settled yet; `raa dlq show ID` says when")
    return bad or (bool(waiting) and seconds > 0)


async def _settled(
    bus: Bus, deployment: str, sent: dict[str, Pick], begun: datetime
) -> AsyncGenerator[tuple[str, str, str], None]:
    """Follow what groups say, and the letters of those that died again, also of records that name no task."""
    done = owned(deployment, topic_of(RedriveDone).name)
    groups = {pick.group for pick in sent.values()}
    topics = [done, *(owned(deployment, dead_letter_topic(group)) for group in sorted(groups))]
    async with reading_topics(bus, topics, from_beginning=True, follow=True) as found:
        async for record in found:
            if record.topic != done:
                with contextlib.suppress(CorruptLetter):
                    letter = read_letter(record)
                    if letter.parent and letter.last_failed >= begun:
                        yield letter.parent, "failed", f"dead letter {letter.id}: {letter.message}"
                continue
            observed = observe(record, deployment)
            if observed and isinstance(observed.event, RedriveDone) and observed.envelope.time >= begun:
                yield observed.event.letter, observed.event.outcome, observed.event.reason


async def drop(place: Place, wanted: Wanted, why: str, *, as_json: bool) -> int:
    """Give letters up, for a reason that stays with them; 1 if none was dropped, or one was refused.

    The tasks they hold up end.
    """
    _require_choice(wanted, "drop")
    if not why.strip():
        raise UsageProblem("--why is empty; say why nobody will redrive them")
    report, dropped = Report(as_json), 0
    async with picked(place, wanted) as (session, picks):
        sender, few = Sender(place, session.client.bus, 1_000.0), len(picks.listed) <= MOST_NAMED
        for pick in picks.listed:
            if told := decided_before(pick, How(), forced_by=""):
                report.tell(pick, *told, loud=few)
            elif pick.kind == "aggregate" and pick.group == "planner":
                report.tell(pick, "refused", "its task would never end; mend the cause and redrive it", loud=True)
            else:
                await sender.send(picks.letter(pick), Decision("drop", author(), datetime.now(UTC), why))
                dropped += 1
                report.tell(pick, "dropped")
    report.close(len(picks.listed))
    return 0 if dropped and "refused" not in report.counts else FAILED
