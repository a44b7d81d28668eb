"""The offline model as a model like any other: same prompt in, same completion form out, no endpoint."""

import asyncio
from typing import Any

from raa_router.offline.answer import answer
from raa_router.ports import Endpoint, Question

_BYTES_PER_TOKEN = 4
_LONG = 65_536


class OfflineModel:
    """Answer by rules. Tokens are estimated, four bytes each, so that offline runs show a size as others do."""

    async def complete(self, endpoint: Endpoint, question: Question) -> dict[str, Any]:
        """Answer at once; a long prompt is read in a thread, so that nobody waits for it."""
        size = sum(len(str(message.get("content", ""))) for message in question.messages)
        said = answer(question.messages) if size < _LONG else await asyncio.to_thread(answer, question.messages)
        message = {"role": "assistant", "content": said}
        usage = {"prompt_tokens": size // _BYTES_PER_TOKEN, "completion_tokens": len(said) // _BYTES_PER_TOKEN}
        return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
