"""What safety needs to know beside the settings of every service."""

from pathlib import Path

from pydantic import Field

from raa_runtime.settings import ServiceSettings


class SafetySettings(ServiceSettings):
    """Settings of the safety service."""

    executor_url: str = Field("http://127.0.0.1:8082", description="an executor, for the declarations of its tools")
    tools_refresh_seconds: float = Field(3, gt=0, description="how old the known declarations may become")
    policy: Path | None = Field(None, description="JSON file of the policy; without it read and workspace run freely")
    grant_seconds: float = Field(3_600, gt=0, description="lifetime of a grant, never longer than its task")
    grant_key: str = Field("grants", pattern=r"^[a-z0-9-]{1,40}$", description="name of the key that signs grants")
    revoked_grant_keys: frozenset[str] = Field(frozenset(), description="key ids that executors must not accept")
    approval_seconds: float = Field(86_400, gt=0, description="how long an approval waits before it is denied")
    approver_keys: tuple[str, ...] = Field((), description="who may decide: key_id=<base64 Ed25519 key>")
    approver_keys_file: Path | None = Field(None, description="JSON list of {key_id, public_key}, read when it changes")
    linger_seconds: float = Field(3_600, ge=0, description="how long a task is remembered after its deadline")
