"""What goes wrong in a simulated world, and how often: probabilities, delays and outages, all from one seed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

T = TypeVar("T")


@dataclass
class Weather:
    """Probabilities per request. The default is a calm day: short delays and nothing else."""

    delay: float = 0.002
    """longest usual time on the way, in seconds, each way"""
    slow: float = 0.0
    """a request that takes up to two seconds"""
    lost_request: float = 0.0
    """never arrives; the caller hears that nobody answered"""
    lost_reply: float = 0.0
    """done, but the caller hears that nobody answered"""
    duplicate: float = 0.0
    """a record that comes a second time, up to ten seconds later"""
    held_back: float = 0.0
    """a partition whose newest records are seen late"""
    stale: float = 0.0
    """a query that sees what was there before the newest write"""
    bad_batch: float = 0.0
    """a batch that fails as a whole for one document that cannot be stored"""


@dataclass
class Chance:
    """The one source of chance of a world."""

    seed: int
    weather: Weather = field(default_factory=Weather)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)  # noqa: S311  # chance has to repeat here
        self.random = self._random.random

    def happens(self, probability: float) -> bool:
        """Toss a coin."""
        return probability > 0 and self.random() < probability

    def between(self, low: float, high: float) -> float:
        """Draw a number."""
        return low + (high - low) * self.random()

    def up_to(self, count: int) -> int:
        """Draw one of 0 … count - 1."""
        return int(self.random() * count)

    def one_of(self, items: Sequence[T]) -> T:
        """Draw one of these."""
        return items[self.up_to(len(items))]

    def delay(self) -> float:
        """Draw how long something is on its way, in seconds."""
        if self.happens(self.weather.slow):
            return self.between(0.1, 2.0)
        return self.weather.delay * self.random()
