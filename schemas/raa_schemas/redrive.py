"""What became of a decision about a dead letter."""

from typing import Literal

from pydantic import Field

from raa_schemas.event import Event

RedriveOutcome = Literal["handled", "ignored", "refused", "failed", "dropped"]


class RedriveDone(Event):
    """A group acted on somebody's decision about one of its dead letters."""

    group: str = Field(description="consumer group")
    letter: str = Field(max_length=64, description="id of the dead letter")
    outcome: RedriveOutcome = Field(
        description="handled: as if it had never died; ignored: the aggregate has no use for it any more; refused: the "
        "aggregate has ended; failed: it died again, as another dead letter; dropped: nobody will redrive it"
    )
    reason: str = Field("", max_length=2_000, description="why it was ignored, refused, dropped or failed again")
