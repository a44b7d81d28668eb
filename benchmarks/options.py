"""What the person at the keyboard wants: which benchmarks, how many rounds, which peers."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Options:
    """The choices; `quick` asks for a quarter of the work, which shows that everything runs and no more."""

    rounds: int = 5
    peers: str = ""
    quick: bool = False

    def share(self, count: int) -> int:
        """Cut a number of tasks down if it must be quick."""
        return max(40, count // 4) if self.quick else count


def say(*words: object) -> None:
    """Show progress at once."""
    print(*words, flush=True)
