"""FastStream with its defaults: one app, a subscriber per stage, a pydantic model.

Durability: its defaults, acks=1 and offsets committed in the background before the work is done, so a crash can lose
records; no state.
"""

import sys

from faststream import FastStream
from faststream.kafka import KafkaBroker
from pydantic import BaseModel

from benchmarks.peers.client import serve
from benchmarks.peers.environment import KAFKA, STAGES, topic
from benchmarks.peers.kafka_client import KafkaClient


class Work(BaseModel):
    """What travels."""

    key: str
    number: int
    stage: int
    text: str


broker = KafkaBroker(KAFKA, logger=None)
app = FastStream(broker, logger=None)


def add_stage(number: int) -> None:
    """Subscribe one stage. `earliest`, because a new group would miss what was sent before it joined."""
    publisher = broker.publisher(topic(number + 1))

    @broker.subscriber(topic(number), group_id=topic(number), auto_offset_reset="earliest")
    async def on_work(work: Work) -> None:
        if work.stage != number:
            raise ValueError(f"{work.key} came to stage {number} after {work.stage} stages")
        await publisher.publish(work.model_copy(update={"stage": number + 1}), key=work.key.encode())


for each in range(STAGES):
    add_stage(each)

if __name__ == "__main__":
    if sys.argv[1] == "client":
        serve(KafkaClient())
    else:
        import uvloop

        uvloop.run(app.run())
