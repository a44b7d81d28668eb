"""Settings: read once from the environment, validated, passed down. Nothing else reads the environment."""

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self, get_origin

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from raa_runtime.errors import Misconfigured
from raa_schemas.ids import DEPLOYMENT_PATTERN
from raa_schemas.settings import VARIABLES

PREFIX = "RAA_"
_TEST_PREFIX = "RAA_TEST_"
_LISTS = (list, tuple, set, frozenset)


INSTANCE = (
    "name of this process, its own among the replicas and kept over restarts, which makes it a static member of its "
    "Kafka groups; empty: made from host and folder, and no static member"
)


class ServiceSettings(BaseModel):
    """What every service needs to know. The variable of a field is `RAA_` and its name in capitals."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    deployment: str = Field("", pattern=DEPLOYMENT_PATTERN, description="prefix of everything owned on shared systems")
    data: Path = Field(Path("raa-data"), description="folder of this process's own files")
    instance: str = Field("", description=INSTANCE)
    bus: Literal["embedded", "kafka"] = Field("embedded", description="which bus")
    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Kafka servers, host:port separated by commas")
    kafka_security: dict[str, Any] = Field(default_factory=dict, description="JSON: protocol, mechanism, username, …")
    kafka_partitions: int = Field(6, ge=1, le=1_000, description="partitions of topics that are created")
    kafka_replication: int = Field(1, ge=1, le=9, description="replicas of topics that are created")
    kafka_heartbeat_seconds: float = Field(3, gt=0, description="heartbeat of the consumer group")
    kafka_session_seconds: float = Field(10, gt=0, description="silence after which a member is dropped")
    create_topics: bool = Field(True, description="create missing topics at start")
    store: Literal["sqlite", "mongo"] = Field("sqlite", description="which document store")
    mongo_url: SecretStr = Field(SecretStr("mongodb://127.0.0.1:27017"), description="MongoDB connection string")
    redis_url: SecretStr | None = Field(None, description="Redis for caches; without it they live in the process")
    blobs_url: str = Field("", description="file:… folder or s3://bucket/prefix; empty: below the data folder")
    http_host: str = Field("127.0.0.1", description="address the HTTP server listens on; empty: none")
    http_port: int = Field(0, ge=0, le=65_535, description="port of the HTTP server; 0 takes a free one")
    http_max_connections: int = Field(
        1_000, ge=10, le=100_000, description="connections the HTTP server takes, and HTTP calls under way from here"
    )
    allow_anonymous: bool = Field(True, description="records without tenant belong to the tenant `default`")
    tenants: frozenset[str] = Field(frozenset(), description="the tenants there are; empty allows any")
    max_in_flight: int = Field(512, ge=1, le=100_000, description="records taken and not settled")
    cache_bytes: int = Field(8_388_608, ge=0, description="own writes kept in memory, in bytes of their documents")
    lease_seconds: float = Field(10, gt=0, description="silence after which a process counts as dead")
    drain_seconds: float = Field(30, ge=0, description="how long a stop waits for running work")
    horizon_seconds: float = Field(7 * 86_400, gt=0, description="older events create nothing")
    tombstone_seconds: float = Field(8 * 86_400, gt=0, description="how long what has ended is remembered")
    defer_tries: int = Field(8, ge=1, description="tries of an event that fails for a passing reason")
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="what is logged")

    @classmethod
    def from_env(cls, environment: Mapping[str, str], **overrides: Any) -> Self:
        """Read the settings; raises Misconfigured naming the variable and what it should be."""
        _refuse_unknown(environment)
        values: dict[str, Any] = {}
        for name, field in cls.model_fields.items():
            raw = environment.get(PREFIX + name.upper())
            if raw is not None and raw != "":
                values[name] = _parse(name, raw, field.annotation)
        try:
            return cls.model_validate(values | overrides)
        except ValidationError as problem:
            raise Misconfigured("; ".join(_explain(item) for item in problem.errors())) from None

    def variables(self) -> list[str]:
        """Name the variables of these settings."""
        return [PREFIX + name.upper() for name in type(self).model_fields]


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    for name in environment:
        if name.startswith(PREFIX) and not name.startswith(_TEST_PREFIX) and name not in VARIABLES:
            near = difflib.get_close_matches(name, VARIABLES, 1)
            hint = f"did you mean {near[0]}?" if near else "remove it, or see docs/settings.md for those there are"
            raise Misconfigured(f"the variable {name} is unknown; {hint}")


def _parse(name: str, raw: str, annotation: Any) -> Any:
    if raw[0] in "[{":
        try:
            return json.loads(raw)
        except json.JSONDecodeError as problem:
            raise Misconfigured(f"{PREFIX}{name.upper()} is not JSON: {problem}") from None
    if get_origin(annotation) in _LISTS:
        return [part.strip() for part in raw.split(",") if part.strip()]
    return raw


def _explain(item: Any) -> str:
    name = PREFIX + str(item["loc"][0]).upper() if item["loc"] else "the settings"
    return f"{name}: {item['msg']}"
