"""Recorded event logs: one JSON line per record, as it lay on the bus.

To record a release, run the demo on a fresh folder and write its log:

    raa demo --data DIR && python -m tests.replay.log_file DIR tests/replay/recorded/VERSION.jsonl
"""

import asyncio
import json
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from raa_client.observed import observe
from raa_client.story import fold_story
from raa_runtime.bus.embedded import EmbeddedBus
from raa_runtime.bus.port import Record

RECORDED = Path(__file__).parent / "recorded"


def load(path: Path) -> Iterator[Record]:
    """Read a recorded log."""
    for line in path.read_text().splitlines():
        topic, partition, offset, at, key, value, headers = json.loads(line)
        yield Record(
            topic,
            partition,
            offset,
            datetime.fromtimestamp(at, UTC),
            key.encode(),
            value.encode(),
            tuple((name, text.encode()) for name, text in headers),
        )


def folded(path: Path) -> dict[str, object]:
    """Fold a recorded log into the story of each of its tasks, as JSON."""
    observed = [event for record in load(path) if (event := observe(record, "")) is not None]
    tasks = dict.fromkeys((event.tenant, event.event.task_id) for event in observed)
    stories = {
        f"{tenant}/{task}": fold_story([e for e in observed if (e.tenant, e.event.task_id) == (tenant, task)]).to_json()
        for tenant, task in tasks
    }
    normal: dict[str, object] = json.loads(json.dumps(stories, default=str, sort_keys=True))
    return normal


async def record(folder: Path, path: Path) -> None:
    """Write the log of a data folder, and what it folds to today."""
    bus = EmbeddedBus(folder)
    await bus.start()
    with path.open("w") as out:
        async for item in bus.read(sorted(await bus.topics()), from_beginning=True, follow=False):
            headers = [[name, (raw or b"").decode()] for name, raw in item.headers]
            key, value = (item.key or b"").decode(), (item.value or b"").decode()
            place = [item.topic, item.partition, item.offset, item.timestamp.timestamp()]
            out.write(json.dumps([*place, key, value, headers]) + "\n")
    await bus.stop()
    path.with_suffix(".story.json").write_text(json.dumps(folded(path), indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    asyncio.run(record(Path(sys.argv[1]), Path(sys.argv[2])))
