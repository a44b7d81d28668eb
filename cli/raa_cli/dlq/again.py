"""Does the task of a dead letter again as a new task, which cites the one that has ended."""

from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from raa_cli.execute import CommandFailed
from raa_client.client import Client
from raa_client.observed import Observed, observe
from raa_client.observed import reading as reading_topics
from raa_runtime.bus.port import Bus, Message
from raa_runtime.deadletters import Letter
from raa_schemas.envelope import Envelope
from raa_schemas.ids import derived_event_id, owned, task_aggregate
from raa_schemas.task import TaskCreated, TaskDone
from raa_schemas.topics import tenant_topic, topic_of

Task = tuple[str, str]


async def ended_tasks(bus: Bus, deployment: str, wanted: set[tuple[str | None, str | None]]) -> frozenset[Task]:
    """Find which of these tasks have ended, by the attributes of their last events."""
    found: set[Task] = set()
    topic = owned(deployment, topic_of(TaskDone).name)
    async with reading_topics(bus, [topic], from_beginning=True, follow=False) as records:
        async for record in records:
            named = {name: (raw or b"").decode(errors="replace") for name, raw in record.headers}
            task = named.get("ce_tenant", ""), named.get("ce_subject", "")
            if task in wanted:
                found.add(task)
    return frozenset(found)


class Again:
    """Submit tasks again, each once however many of its letters are redriven."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._made: dict[Task, str] = {}

    async def submit(self, original: Observed, letter: Letter) -> str:
        """Publish the new task and give its id; the same letter always makes the same task.

        Raises ClaimGone when a file of the ended task is no longer kept.
        """
        task = original.tenant, original.envelope.subject
        if task not in self._made:
            new_id = f"again-{letter.id}"
            await self._copy_files(original, new_id)
            message = message_again(original, new_id, self._client.deployment)
            (problem,) = await self._client.bus.publish([message])
            if problem is not None:
                raise problem
            self._made[task] = new_id
        return self._made[task]

    async def _copy_files(self, original: Observed, new_id: str) -> None:
        """Give the new task the files of the old one: files belong to their task."""
        scope = self._client.of_tenant(original.tenant).scope
        for given in original.event.inputs if isinstance(original.event, TaskCreated) else ():
            kind, _, sha256 = (given.uri or "").rpartition("/")
            if kind != "blob:sha256":
                continue
            with TemporaryDirectory(prefix="raa-again-") as folder:
                path = Path(folder) / "file"
                await self._client.blobs.fetch_to(scope, original.envelope.subject, sha256, path)
                await self._client.blobs.put_file(scope, new_id, path)

    async def original(self, letter: Letter) -> Observed:
        """Find the submission of a letter's task; raises CommandFailed when it is no longer there."""
        own = observe(letter.record, self._client.deployment)
        if own is not None and isinstance(own.event, TaskCreated):
            return own
        topics = [owned(self._client.deployment, topic_of(TaskCreated).name)]
        if letter.tenant:
            topics.append(owned(self._client.deployment, tenant_topic(letter.tenant, TaskCreated)))
        async with reading_topics(self._client.bus, topics, from_beginning=True, follow=False) as records:
            async for record in records:
                observed = observe(record, self._client.deployment, tenant=letter.tenant, task_id=letter.task)
                if observed is not None:
                    return observed
        raise CommandFailed(
            f"the submission of {letter.task or 'its task'} is not on the bus, or cannot be read; "
            f"correct it with `raa dlq edit {letter.id} --as-new-task`, or submit the task anew"
        )


def message_again(original: Observed, new_id: str, deployment: str) -> Message:
    """Write the submission of a task again, under a new id, citing the first as its cause."""
    ended = original.envelope.subject
    event = original.event.model_copy(update={"task_id": new_id, "resubmits": ended})
    topic, key = topic_of(TaskCreated), task_aggregate(original.tenant, new_id)
    envelope = Envelope(
        id=derived_event_id(f"{deployment}|{key}|again|{original.id}"),
        source="client",
        type=topic.name,
        time=datetime.now(UTC),
        subject=new_id,
        tenant=original.tenant,
        dataschema=event.schema_name(),
        causation_id=original.id,
    )
    return Message(owned(deployment, topic.name), key.encode(), event.to_json(), tuple(envelope.headers()))
