"""The chat request as the router takes it, and the digest by which a repeated key is told from a reused one."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from raa_schemas.canonical import digest

MAX_REQUEST_BYTES = 768 * 1024
_DEFAULT_OUTPUT_TOKENS = 4_096


class ResponseFormat(BaseModel):
    """What form the answer should have."""

    model_config = ConfigDict(extra="allow", frozen=True)

    type: Literal["text", "json_object", "json_schema"] = Field("text", description="text, or a JSON object")


class ChatRequest(BaseModel):
    """The body of POST /v1/chat/completions. Fields that are not listed are ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    model: str = Field("default", min_length=1, max_length=200, description="a configured name, a tier, or default")
    messages: list[dict[str, Any]] = Field(min_length=1, max_length=1_000, description="OpenAI chat messages")
    temperature: float | None = Field(None, ge=0, le=2, description="0 is the most repeatable")
    top_p: float | None = Field(None, gt=0, le=1, description="share of likely tokens to draw from")
    seed: int | None = Field(None, description="for models that can repeat themselves")
    stop: str | list[str] | None = Field(None, description="texts that end the answer")
    max_tokens: int | None = Field(None, ge=1, le=1_000_000, description="tokens of the answer at most")
    response_format: ResponseFormat | None = Field(None, description="asks for JSON; left out where it is refused")
    stream: bool = Field(False, description="only false is offered")

    @property
    def wants_json(self) -> bool:
        """Say whether the answer has to be a JSON value."""
        return self.response_format is not None and self.response_format.type != "text"

    @property
    def digest(self) -> str:
        """Hash everything that can change the answer."""
        return digest(self.model_dump(mode="json", exclude={"stream"}))

    def parameters(self) -> dict[str, Any]:
        """Give what goes to the endpoint beside model and response format."""
        return self.model_dump(
            mode="json", exclude_none=True, exclude={"model", "messages", "stream", "response_format"}
        )

    def output_tokens(self, most: int | None) -> int:
        """Bound the tokens of the answer: what the caller asks, at most what the model is allowed."""
        allowed = most or _DEFAULT_OUTPUT_TOKENS
        return min(self.max_tokens or allowed, allowed)
