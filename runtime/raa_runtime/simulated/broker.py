"""The broker of a simulated world: partitions, groups, committed offsets. It survives every process."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Protocol

from raa_runtime.bus.placement import partition_of
from raa_runtime.bus.port import Message, Record, TopicPartition, TopicSpec
from raa_runtime.errors import PublishRefused, TransientError
from raa_runtime.simulated.chance import Chance
from raa_runtime.simulated.clock import virtual_now
from raa_runtime.simulated.process import OUTSIDE, Process
from raa_runtime.simulated.wire import Server
from raa_schemas.topics import MAX_MESSAGE_BYTES

REJOIN_SECONDS: Final = 6.0
HEARTBEAT_SECONDS: Final = 0.5
LONGEST_HOLD_SECONDS: Final = 3.0
LATEST_DUPLICATE_SECONDS: Final = 10.0
Appended = Callable[[Record], None]


class Member(Protocol):
    """A consumer as the broker knows it."""

    topics: tuple[str, ...]
    process: Process | None

    def invited(self) -> None:
        """Hear that the group deals its partitions out anew, at the next heartbeat."""

    def dealt(self, held: Mapping[TopicPartition, int]) -> None:
        """Hear what it holds now, and from which offsets."""

    def arrived(self) -> None:
        """Hear that there is something to fetch."""


@dataclass(eq=False)
class Group:
    """A consumer group: eager, every change takes everything from everybody."""

    broker: "Broker"
    name: str
    offsets: dict[TopicPartition, int] = field(default_factory=dict)
    members: list[Member] = field(default_factory=list)
    joined: list[Member] = field(default_factory=list)
    held: dict[TopicPartition, Member] = field(default_factory=dict)
    generation: int = 0
    dealing: bool = False

    def add(self, member: Member) -> None:
        """Take a member in."""
        self.members.append(member)
        self.change()

    def remove(self, member: Member) -> None:
        """Take a member out: it left, or was silent for too long."""
        if member in self.members:
            self.members.remove(member)
            self.held = {place: holder for place, holder in self.held.items() if holder is not member}
            self.change()

    def change(self) -> None:
        """Begin a rebalance, or let one that is under way know of a newcomer or a loss."""
        if not self.dealing:
            self.dealing, self.joined = True, []
            self.generation += 1
            self.broker.later(REJOIN_SECONDS, partial(self._expire, self.generation))
        self.joined = [member for member in self.joined if member in self.members]
        for member in self.members:
            if member not in self.joined:
                member.invited()
        self._deal_if_complete()

    def join(self, member: Member) -> None:
        """Note that a member has given up what it held and is ready for its share."""
        if self.dealing and member in self.members and member not in self.joined:
            self.joined.append(member)
            self._deal_if_complete()

    def _expire(self, generation: int) -> None:
        if self.dealing and generation == self.generation:
            self.members = [member for member in self.members if member in self.joined]
            self._deal_if_complete()

    def _deal_if_complete(self) -> None:
        if not self.dealing or len(self.joined) < len(self.members):
            return
        self.dealing, self.held = False, {}
        for index, member in enumerate(self.members):
            share = [place for topic in member.topics for place in self._share(topic, index)]
            self.held |= dict.fromkeys(share, member)
            member.dealt({place: self.offsets.get(place, 0) for place in share})

    def _share(self, topic: str, index: int) -> list[TopicPartition]:
        size, extra = divmod(len(self.broker.topics[topic]), len(self.members))
        start = index * size + min(index, extra)
        return [TopicPartition(topic, part) for part in range(start, start + size + (index < extra))]

    def commit(self, member: Member, offsets: Mapping[TopicPartition, int]) -> None:
        """Store offsets of one who holds these partitions; raises TransientError for everybody else."""
        if any(self.held.get(place) is not member for place in offsets) or (self.dealing and member in self.joined):
            raise TransientError(f"{self.name}: this member no longer holds all of these partitions")
        self.offsets |= offsets


class Broker(Server):
    """Topics and groups."""

    def __init__(self, chance: Chance, session_seconds: float = 6.0) -> None:
        super().__init__("bus", chance)
        self.session_seconds = session_seconds
        self.topics: dict[str, list[list[Record]]] = {}
        self.starts: dict[TopicPartition, int] = {}
        self.groups: dict[str, Group] = {}
        self.held_back: dict[TopicPartition, float] = {}
        self.observers: list[Appended] = []

    def later(self, seconds: float, act: Callable[[], object]) -> None:
        """Act later, whatever becomes of who asked."""
        asyncio.get_running_loop().call_later(seconds, act, context=OUTSIDE)

    def group(self, name: str) -> Group:
        """Give a group; it comes into being when it is first named."""
        return self.groups.setdefault(name, Group(self, name))

    def create(self, specs: Sequence[TopicSpec]) -> list[str]:
        """Create missing topics."""
        missing = [spec for spec in specs if spec.name not in self.topics]
        for spec in missing:
            self.topics[spec.name] = [[] for _ in range(spec.partitions)]
        return [spec.name for spec in missing]

    def append(self, messages: Sequence[Message]) -> list[Exception | None]:
        """Append what can be appended, in order."""
        said = [self._append(message) for message in messages]
        self.changed()
        return said

    def _append(self, message: Message) -> Exception | None:
        if message.topic not in self.topics:
            return PublishRefused(f"there is no topic {message.topic!r}; create it with `raa topics apply`")
        if len(message.value) + len(message.key) > MAX_MESSAGE_BYTES:
            return PublishRefused(f"a record of {len(message.value)} bytes is too large for {message.topic!r}")
        self._put(message)
        if self.chance.happens(self.chance.weather.duplicate):
            self.later(self.chance.between(0.0, LATEST_DUPLICATE_SECONDS), lambda: self._put(message))
        return None

    def _put(self, message: Message) -> None:
        partitions = self.topics[message.topic]
        number = partition_of(message.key, len(partitions))
        log = partitions[number]
        place = TopicPartition(message.topic, number)
        log.append(Record(message.topic, number, len(log), virtual_now(), message.key, message.value, message.headers))
        if self.chance.happens(self.chance.weather.held_back):
            hold = self.chance.between(0.0, LONGEST_HOLD_SECONDS)
            self.held_back[place] = asyncio.get_running_loop().time() + hold
            self.later(hold, lambda: self.tell(message.topic))
        for observe in self.observers:
            observe(log[-1])
        self.tell(message.topic)

    def tell(self, topic: str) -> None:
        """Wake whoever waits for records of a topic."""
        for group in self.groups.values():
            for member in group.members:
                if topic in member.topics:
                    member.arrived()

    def fetch(self, place: TopicPartition, offset: int, limit: int) -> list[Record]:
        """Read records of a partition from an offset on, unless it is held back for now."""
        if self.held_back.get(place, 0.0) > asyncio.get_running_loop().time():
            return []
        start = max(offset, self.starts.get(place, 0))
        return self.topics[place.topic][place.partition][start : start + limit]

    def expire(self, topic: str) -> None:
        """Let retention take all there is of a topic."""
        self.starts |= self.ends([topic])

    def lag(self, place: TopicPartition, committed: int) -> int:
        """Count what lies behind an offset and is still there."""
        return max(0, len(self.topics[place.topic][place.partition]) - max(committed, self.starts.get(place, 0)))

    def ends(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        """Give the next offset of each partition."""
        return {
            TopicPartition(topic, part): len(log)
            for topic in topics
            if topic in self.topics
            for part, log in enumerate(self.topics[topic])
        }

    def silent(self, process: Process) -> None:
        """Drop what a process held when its session is over; called when it froze or died."""

        def expire() -> None:
            if process.state == "alive":
                return
            for group in list(self.groups.values()):
                for member in [member for member in group.members if member.process is process]:
                    group.remove(member)

        self.later(self.session_seconds, expire)
