"""One function per consumed event: what memory keeps of it."""

from raa_memory.domain.episode import LEARNED, EpisodeLog
from raa_runtime.unit import Received, Unit
from raa_schemas.reflection import ReflectionDone


def on_reflection_done(unit: Unit[EpisodeLog], event: Received[ReflectionDone]) -> None:
    """Append the attempt and its lessons to the task's log; publishes nothing.

    A reflection that was taken in before changes nothing, however late it comes again. One that teaches nothing is
    noted all the same, so that a recall that names it is not stale.
    """
    if event.id in unit.state.reflections:
        unit.ignore("this reflection was taken in before")
        return
    unit.state.take(event.id, event.data, unit.now)
    unit.mark(LEARNED, unit.now.timestamp())
