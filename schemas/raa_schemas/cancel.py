"""The wish to end a task early."""

from pydantic import Field

from raa_schemas.event import Event


class CancelRequested(Event):
    """Somebody, or the planner itself, ends a task early."""

    requested_by: str = Field("client", max_length=128, description="who")
    reason: str = Field("", max_length=2_000, description="why")
