"""Hands tasks to the agent and observes what becomes of them, over any bus and blob store.

It joins no consumer group and keeps no state: what it knows of a task it reads from the task's events.
"""

import asyncio
import json
import mimetypes
import secrets
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar, cast
from uuid import uuid4

from raa_client.errors import InputUnusable, NothingToDecide, TaskUnknown
from raa_client.following import Following
from raa_client.observed import Observed, in_order, observe, reading, story_topics
from raa_client.operator import Operator
from raa_runtime.blobs import BlobStore
from raa_runtime.bus.port import Bus, Message
from raa_runtime.errors import DeadlineExceeded
from raa_runtime.scope import TenantScope
from raa_schemas.approval import ApprovalDecided, ApprovalRequested, Verdict
from raa_schemas.artifact import Artifact, Input, workspace_name
from raa_schemas.cancel import CancelRequested
from raa_schemas.canonical import digest_bytes
from raa_schemas.envelope import Envelope
from raa_schemas.event import Event
from raa_schemas.ids import DEFAULT_TENANT, TaskId, TenantId, event_id, is_task_id, owned, step_path
from raa_schemas.reflection import Lesson, ReflectionDone
from raa_schemas.step import StepEvent
from raa_schemas.task import TaskCreated, TaskDone, TaskStatus
from raa_schemas.topics import topic_of

E = TypeVar("E", bound=Event)
MAX_RESULT_BYTES: Final = 64 * 1024 * 1024


def new_task_id() -> TaskId:
    """Make a task id that nobody else makes."""
    return TaskId(f"task-{uuid4().hex[:20]}")


def named_task(task: TaskCreated) -> TaskCreated:
    """Give a task without an id a new one."""
    return task if task.task_id else task.model_copy(update={"task_id": new_task_id()})


class Client:
    """One tenant's client. The caller starts and stops the bus."""

    def __init__(self, bus: Bus, blobs: BlobStore, *, deployment: str = "", tenant: str = DEFAULT_TENANT) -> None:
        self.bus, self.blobs = bus, blobs
        self.deployment = deployment
        self.scope = TenantScope(TenantId(tenant))

    @property
    def tenant(self) -> str:
        """Name the tenant."""
        return self.scope.tenant

    def of_tenant(self, tenant: str) -> "Client":
        """Give a client of another tenant over the same bus."""
        return Client(self.bus, self.blobs, deployment=self.deployment, tenant=tenant)

    # what goes in

    async def attach(self, task_id: str, path: Path, name: str | None = None) -> Input:
        """Store a file of a task that is about to be submitted, in bounded memory.

        Raises InputUnusable naming the path; DependencyUnavailable when the blob store does not answer.
        """
        if not is_task_id(task_id):
            raise InputUnusable(f"{task_id!r} is no task id; use up to 128 letters, digits and ._:-")
        given = _readable(path, name or path.name)
        try:
            sha256, size = await self.blobs.put_file(self.scope, task_id, path)
        except OSError as problem:
            raise InputUnusable(f"{path} cannot be read: {problem.strerror}; give another file") from None
        media_type = mimetypes.guess_type(path.name)[0]
        return Input(name=given, uri=f"blob:sha256/{sha256}", sha256=sha256, size=size, media_type=media_type)

    async def submit(self, task: TaskCreated) -> TaskId:
        """Publish a task, durably; a task without an id gets a new one. Raises PublishRefused and TransientError."""
        named = named_task(task)
        await self._publish(named)
        return TaskId(named.task_id or "")

    async def cancel(self, task_id: str, reason: str = "", requested_by: str = "client") -> None:
        """Ask for the end of a task; it ends in task.done with the outcome cancelled."""
        await self._publish(CancelRequested(task_id=task_id, requested_by=requested_by, reason=reason))

    async def decide(self, asked: ApprovalRequested, verdict: Verdict, reason: str, operator: Operator) -> None:
        """Publish a person's signed decision."""
        await self._publish(operator.decide(asked, verdict, reason, deployment=self.deployment, tenant=self.tenant))

    async def _publish(self, event: Event) -> None:
        (problem,) = await self.bus.publish([self._message(event)])
        if problem is not None:
            raise problem

    def _message(self, event: Event) -> Message:
        topic = topic_of(type(event))
        step = step_path(event.plan_version, event.step) if isinstance(event, StepEvent) else None
        key = topic.aggregate_id(self.tenant, event.task_id, step)
        body = event.to_json()
        # The same said twice is one event, so that a repeated publish does nothing.
        said = f"client|{digest_bytes(body)}"
        envelope = Envelope(
            id=event_id(self.deployment, said, key, topic.name, 1),
            source="client",
            type=topic.name,
            time=datetime.now(UTC),
            subject=event.task_id,
            tenant=self.tenant,
            dataschema=event.schema_name(),
            step=step,
            traceparent=f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01",
        )
        return Message(owned(self.deployment, topic.name), key.encode(), body, tuple(envelope.headers()))

    # what comes out

    async def run(self, task: TaskCreated) -> AsyncGenerator[Observed, None]:
        """Submit a task and follow it to its end; reading starts before it is submitted."""
        named = named_task(task)
        following = self._following(named.task_id or "")
        async with aclosing(following.newly_submitted(lambda: self._publish(named))) as events:
            async for event in events:
                yield event

    async def watch(self, task_id: str) -> AsyncGenerator[Observed, None]:
        """Give the events of a task from its first one, then as they come; ends at its task.done."""
        async with aclosing(self._following(task_id).from_beginning()) as events:
            async for event in events:
                yield event

    def _following(self, task_id: str) -> Following:
        return Following(self.bus, self.deployment, self.tenant, task_id)

    async def history(self, task_id: str) -> list[Observed]:
        """List the events of a task so far, in order; raises TaskUnknown when there are none."""
        events = await self._read(story_topics(self.deployment, self.tenant), task_id)
        if not events:
            raise TaskUnknown(
                f"tenant {self.tenant!r} has no task {task_id!r} here; check the id, --data and --tenant, or submit it"
            )
        return events

    async def result(self, task_id: str, timeout_seconds: float | None = None) -> TaskDone:
        """Wait for the end of a task.

        Raises TaskUnknown when no event names it, and DeadlineExceeded saying where it stands.
        """
        ended = [owned(self.deployment, topic_of(kind).name) for kind in (TaskCreated, TaskStatus, TaskDone)]
        events = await self._read(ended, task_id)
        if done := _last(events, TaskDone):
            return done
        if not events:
            events = await self.history(task_id)
        try:
            async with asyncio.timeout(timeout_seconds):
                return await self._done(task_id)
        except TimeoutError:
            status = _last(events, TaskStatus)
            state = status.state if status else "submitted"
            raise DeadlineExceeded(
                f"{task_id} has not ended after {timeout_seconds:g} s (it was {state!r}); "
                f"follow it with `raa watch {task_id}`"
            ) from None

    async def _done(self, task_id: str) -> TaskDone:
        topic = owned(self.deployment, topic_of(TaskDone).name)
        async with aclosing(self._records([topic], follow=True)) as records:
            async for observed in records:
                if observed.envelope.subject == task_id and observed.tenant == self.tenant:
                    return cast("TaskDone", observed.event)
        raise DeadlineExceeded(f"the bus ended while {task_id} was waited for; ask again")

    async def open_approvals(self, task_id: str, step: str | None = None) -> list[ApprovalRequested]:
        """List what waits for a person, newest last."""
        events = [observed.event for observed in await self.history(task_id)]
        decided = {event.approval_id for event in events if isinstance(event, ApprovalDecided)}
        return [
            event
            for event in events
            if isinstance(event, ApprovalRequested) and event.approval_id not in decided and step in {None, event.step}
        ]

    async def approval(self, task_id: str, step: str) -> ApprovalRequested:
        """Find the approval of a step that waits; raises NothingToDecide with those that do."""
        if found := await self.open_approvals(task_id, step):
            return found[-1]
        others = sorted({asked.step for asked in await self.open_approvals(task_id)})
        hint = f"these steps wait: {', '.join(others)}" if others else f"see `raa show {task_id}`"
        raise NothingToDecide(f"step {step!r} of {task_id} does not wait for a decision; {hint}")

    async def lessons(self, ids: Sequence[str]) -> dict[str, Lesson]:
        """Look up lessons where they were learned; those no reflection of this tenant names are left out."""
        wanted, found = set(ids), dict[str, Lesson]()
        if not wanted:
            return found
        topic = owned(self.deployment, topic_of(ReflectionDone).name)
        async with aclosing(self._records([topic], follow=False)) as records:
            async for observed in records:
                if observed.tenant == self.tenant and isinstance(observed.event, ReflectionDone):
                    found |= {lesson.id: lesson for lesson in observed.event.lessons if lesson.id in wanted}
        return found

    async def value_of(self, done: TaskDone) -> Any:
        """Give the result of a task, fetched if it travelled by reference; a huge one stays a reference."""
        if done.result_ref is None:
            return done.result
        return json.loads(await self.blobs.get(self.scope, done.task_id, _hash_of(done.result_ref)))

    async def save(self, task_id: str, artifacts: Sequence[Artifact], folder: Path) -> list[Path]:
        """Copy the files a task wrote into a folder, under their names; returns the paths."""
        saved = []
        for artifact in artifacts:
            path = folder / workspace_name(artifact.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            await self.blobs.fetch_to(self.scope, task_id, artifact.sha256, path)
            saved.append(path)
        return saved

    async def tail(self, topic: str, *, from_beginning: bool, follow: bool = True) -> AsyncGenerator[Observed, None]:
        """Observe a topic, all tenants and tasks; records that are no events of it are left out."""
        async with aclosing(self._records([topic], from_beginning=from_beginning, follow=follow)) as records:
            async for observed in records:
                yield observed

    async def _read(self, topics: Sequence[str], task_id: str) -> list[Observed]:
        found: list[Observed] = []
        async with reading(self.bus, topics, from_beginning=True, follow=False) as records:
            async for record in records:
                observed = observe(record, self.deployment, tenant=self.tenant, task_id=task_id)
                found += [observed] if observed else []
        return in_order(found)

    async def _records(
        self, topics: Sequence[str], *, follow: bool, from_beginning: bool = True
    ) -> AsyncGenerator[Observed, None]:
        async with reading(self.bus, topics, from_beginning=from_beginning, follow=follow) as records:
            async for record in records:
                if observed := observe(record, self.deployment):
                    yield observed


def _last(events: Sequence[Observed], kind: type[E]) -> E | None:
    return next((observed.event for observed in reversed(events) if isinstance(observed.event, kind)), None)


def _hash_of(reference: str) -> str:
    return reference.removeprefix("blob:sha256/")


def _readable(path: Path, name: str) -> str:
    if not path.exists():
        raise InputUnusable(f"there is no file {path}; check the path")
    if path.is_dir():
        raise InputUnusable(f"{path} is a folder; attach each file of it with its own --input")
    if not path.is_file():
        raise InputUnusable(f"{path} is no regular file; copy its content into one")
    try:
        return workspace_name(name)
    except ValueError as problem:
        raise InputUnusable(f"{path}: {problem}") from None
