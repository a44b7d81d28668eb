"""What operators ask of a bus, beside what services need of it: how old a record is, who is a member, growth."""

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from raa_runtime.bus.port import TopicPartition


class Operations(Protocol):
    """The operator's side of a bus; the embedded bus and Kafka have it, a simulated one need not."""

    async def times(self, offsets: Mapping[TopicPartition, int]) -> dict[TopicPartition, datetime]:
        """Give the time of the first record at or behind each offset; partitions without one are left out."""
        ...

    async def groups(self) -> dict[str, int]:
        """Name the consumer groups that have read anything, with the number of their members at this moment."""
        ...

    async def grow(self, partitions: Mapping[str, int]) -> None:
        """Give topics this many partitions, more than they have; raises Misconfigured and DependencyUnavailable.

        Keys move: nobody may read or write these topics meanwhile, and their groups must have read all of them.
        """
        ...
