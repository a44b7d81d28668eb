"""Tools of your own: `raa up --tools examples/tools/my_tools.py`, then `raa run "use word_count with text=…"`."""

import json
from datetime import UTC, datetime
from typing import Annotated

from pydantic import Field

from raa_executor.tools.registry import CallContext, tool


@tool(effect="read", risk="read", timeout=5)
def word_count(text: Annotated[str, Field(description="any text")]) -> dict[str, int]:
    """Count the words and characters of a text."""
    return {"words": len(text.split()), "characters": len(text)}


@tool(name="notice.send", effect="keyed", risk="external", timeout=10)
def send_notice(to: str, text: str, context: CallContext) -> dict[str, str]:
    """Send a notice; it leaves this machine, so a person has to approve it.

    This one only says what it would send. A real one hands `idempotency_key` to the far side, which then sends once.
    """
    sent = {"to": to, "text": text, "key": context.idempotency_key, "at": datetime.now(UTC).isoformat()}
    return {"receipt": json.dumps(sent, sort_keys=True)}
