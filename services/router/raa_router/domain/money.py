"""What a call may cost at most, and what it did cost; all amounts in integer micro-USD, rounded up."""

from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from pydantic_core import to_json

_MILLION = 1_000_000


class Price(BaseModel):
    """What a million tokens cost."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_microusd: int = Field(ge=0, description="micro-USD for a million tokens sent")
    output_microusd: int = Field(ge=0, description="micro-USD for a million tokens received")


FREE = Price(input_microusd=0, output_microusd=0)


def worst_case(price: Price | None, messages: Sequence[dict[str, Any]], output_tokens: int) -> int | None:
    """Bound the cost of a call before it is made; None where the model has no known price.

    A token is at least one byte, so the bytes of the messages bound the tokens of the prompt in any tokenizer.
    """
    return cost_of(price, len(to_json(list(messages))), output_tokens)


def cost_of(price: Price | None, prompt_tokens: int, completion_tokens: int) -> int | None:
    """Compute the cost of a call; None, never zero, where the model has no known price."""
    if price is None:
        return None
    return -(-(prompt_tokens * price.input_microusd + completion_tokens * price.output_microusd) // _MILLION)
