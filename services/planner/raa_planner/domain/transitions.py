"""The table of the task: what every incoming event means in every phase, the unknown and the ended task included."""

from typing import Final, Literal, NamedTuple, get_args

from raa_planner.domain.task import Phase

Incoming = Literal[
    "created", "cancel", "ready", "rejected", "step", "reflected", "asked", "decided", "dead", "solved",
    "prepared", "planned", "begin", "turn", "deadline", "stalled", "approval", "horizon",
]  # fmt: skip

# Left the phases; above the events of the bus, then completed activities, the scheduler, and timers.
#
# Topics overtake each other: a step can be done before we read that its plan was ready, and a reflection can be here
# before the last step. So `step`, `reflected` and `asked` count from `verifying` on; a verdict waits for the run's end.
# Words in the cells that are not in IGNORED are acts; what an act does is the handler of its column.
_TABLE: Final = """
           created cancel ready   rejected step    reflected asked   decided dead  solved prepared planned begin turn  deadline stalled approval horizon
new        admit   mark   unknown unknown  unknown unknown   unknown unknown mark  mark   stale    stale   stale stale stale    stale   stale    stale
marked     admit   mark   unknown unknown  unknown unknown   unknown unknown mark  note   stale    stale   stale stale stale    end     stale    forget
queued     twice   end    early   early    early   early     early   note    stall lift   stale    stale   begin begin end      end     stale    stale
preparing  twice   end    early   early    early   early     early   note    stall lift   plan     stale   begun stale end      end     stale    stale
planning   twice   end    old     old      old     old       old     note    stall lift   stale    propose begun stale end      end     stale    stale
verifying  twice   end    run     repair   count   judge     wait    note    stall lift   stale    stale   begun stale end      end     resume   stale
running    twice   end    twice   twice    count   judge     wait    note    stall lift   stale    stale   begun stale end      end     resume   stale
reflecting twice   end    twice   twice    old     judge     old     note    stall lift   stale    stale   begun stale end      end     stale    stale
ended      over    over   over    over     over    over      over    over    over  over   over     over    over  over  over     over    over     over
"""  # noqa: E501  # a table is read by its columns

IGNORED: Final[dict[str, str]] = {
    "unknown": "no task of this id was created here",
    "early": "this task has no plan yet",
    "old": "about a plan this task has left behind",
    "twice": "already known",
    "begun": "already begun",
    "stale": "nothing waits for this any more",
    "over": "the task has ended",
}


class Decision(NamedTuple):
    """What to do: an act, or nothing and why."""

    act: str
    ignored_because: str | None


def _read(table: str) -> dict[tuple[Phase, Incoming], Decision]:
    header, *rows = (line.split() for line in table.strip().splitlines())
    cells = ((phase, incoming, word) for phase, *words in rows for incoming, word in zip(header, words, strict=True))
    decided = {(phase, incoming): Decision(word, IGNORED.get(word)) for phase, incoming, word in cells}
    pairs: list[tuple[Phase, Incoming]] = [(phase, one) for phase in get_args(Phase) for one in get_args(Incoming)]
    return {pair: decided[pair] for pair in pairs}


TRANSITIONS: Final = _read(_TABLE)


def decide(phase: Phase, incoming: Incoming) -> Decision:
    """Look up what an event means for a task in this phase."""
    return TRANSITIONS[phase, incoming]
