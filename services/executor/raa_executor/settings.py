"""What the executor can be told from outside."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, PrivateAttr

from raa_runtime.masking import Secrets
from raa_runtime.settings import ServiceSettings


class ExecutorSettings(ServiceSettings):
    """Settings of the executor.

    `secrets` are those of its environment: tools read their keys there, and may name them in errors.
    """

    safety_url: str = Field("http://127.0.0.1:8086", description="where safety answers: keys and kill switch")
    tools: list[Path] = Field(default_factory=list, description="Python files with tools of your own")
    parallel_steps: int = Field(4, ge=1, le=200, description="steps of one run that may be under way at once")
    tool_slots: int = Field(8, ge=1, le=1_000, description="tools that may run at once in this process")
    file_cache_bytes: int = Field(2 * 1024**3, ge=0, description="local copies of workspace files kept for later steps")
    _secrets: Secrets = PrivateAttr(default_factory=Secrets)

    @classmethod
    def from_env(cls, environment: Mapping[str, str], **overrides: Any) -> Self:
        """Read the settings; raises Misconfigured naming the variable and what it should be."""
        settings = super().from_env(environment, **overrides)
        settings._secrets = Secrets.of(environment)  # noqa: SLF001  # its own
        return settings

    @property
    def secrets(self) -> Secrets:
        """What no event may show."""
        return self._secrets
