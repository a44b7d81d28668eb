"""The adapter against a module that stands where litellm would be: importing the real one takes seconds and 165 MB."""

import asyncio
import os
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from pydantic import SecretStr

from raa_router.adapters.litellm_model import LitellmModel
from raa_router.ports import Endpoint, ModelRefused, Question
from raa_runtime.errors import DeadlineExceeded, DependencyUnavailable, RateLimited, TransientError

pytestmark = pytest.mark.anyio
ENDPOINT = Endpoint("claude", "anthropic/claude", api_key=SecretStr("sk-secret"))


class OpenAIError(Exception):
    def __init__(self, status: int | None, headers: dict[str, str] | None = None) -> None:
        super().__init__(f"status {status}")
        self.status_code = status
        self.response = SimpleNamespace(headers=headers or {})


def install(monkeypatch: pytest.MonkeyPatch, answer: Any) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []

    async def acompletion(**arguments: Any) -> Any:
        calls.append(arguments)
        if isinstance(answer, Exception):
            raise answer
        if answer is None:
            await asyncio.sleep(60)
        return SimpleNamespace(model_dump=lambda: answer)

    litellm, openai = ModuleType("litellm"), ModuleType("openai")
    litellm.acompletion = acompletion  # type: ignore[attr-defined]
    openai.OpenAIError = OpenAIError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "litellm", litellm)
    monkeypatch.setitem(sys.modules, "openai", openai)
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "")
    return calls


def question(seconds: float = 30) -> Question:
    return Question([{"role": "user", "content": "hi"}], "k", seconds, {"temperature": 0}, {"type": "json_object"})


async def test_its_own_retries_and_network_look_ups_are_off_and_our_deadline_is_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls = install(monkeypatch, {"choices": []})
    assert await LitellmModel().complete(ENDPOINT, question()) == {"choices": []}
    (call,) = calls
    assert (call["num_retries"], call["max_retries"], call["timeout"]) == (0, 0, 30)
    assert (call["model"], call["api_key"], call["temperature"]) == ("anthropic/claude", "sk-secret", 0)
    assert os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] == "True"


@pytest.mark.parametrize(
    ("problem", "ours"),
    [
        (OpenAIError(429, {"retry-after": "7"}), RateLimited),
        (OpenAIError(503), DependencyUnavailable),
        (OpenAIError(None), DependencyUnavailable),
        (OpenAIError(401), ModelRefused),
    ],
)
async def test_its_errors_become_ours(
    monkeypatch: pytest.MonkeyPatch, problem: Exception, ours: type[Exception]
) -> None:
    install(monkeypatch, problem)
    with pytest.raises(ours) as raised:
        await LitellmModel().complete(ENDPOINT, question())
    if isinstance(raised.value, RateLimited):
        assert raised.value.retry_after == 7


async def test_a_call_that_hangs_ends_at_our_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, None)
    with pytest.raises(DeadlineExceeded) as raised:
        await LitellmModel().complete(ENDPOINT, question(0.05))
    assert isinstance(raised.value, TransientError)


async def test_without_the_library_the_message_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litellm", None)
    with pytest.raises(ModelRefused, match=r"pip install 'raa-router\[litellm\]'"):
        await LitellmModel().complete(ENDPOINT, question())


def test_the_router_starts_without_importing_it() -> None:
    import subprocess

    code = "import sys, raa_router.app; sys.exit('litellm' in sys.modules or 'openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
