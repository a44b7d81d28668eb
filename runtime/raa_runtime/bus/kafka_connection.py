"""How this process reaches Kafka: servers, security, timings; and foreign errors and hangs translated once."""

import asyncio
import ssl
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from aiokafka import errors as kafka_errors
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from raa_runtime.errors import DependencyUnavailable, Misconfigured, RaaError, TransientError

if TYPE_CHECKING:
    from faststream.kafka import KafkaBroker
    from faststream.security import BaseSecurity

T = TypeVar("T")
_REFUSED_BY_BROKER = (
    kafka_errors.TopicAuthorizationFailedError,
    kafka_errors.GroupAuthorizationFailedError,
    kafka_errors.ClusterAuthorizationFailedError,
    kafka_errors.AuthenticationFailedError,
)
_MEMBERSHIP_LOST = (
    kafka_errors.CommitFailedError,
    kafka_errors.IllegalStateError,
    kafka_errors.ConsumerStoppedError,
)


class KafkaSecurity(BaseModel):
    """How to prove who we are; the default is a plain connection without a name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    username: str = ""
    password: SecretStr = SecretStr("")
    ca_file: Path | None = Field(None, description="PEM file of the authorities to trust; none: those of this machine")

    @classmethod
    def from_settings(cls, values: dict[str, Any]) -> "KafkaSecurity":
        """Read RAA_KAFKA_SECURITY; raises Misconfigured without repeating the password."""
        try:
            return cls.model_validate(values)
        except ValidationError as problem:
            wrong = "; ".join(f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in problem.errors())
            raise Misconfigured(f"RAA_KAFKA_SECURITY: {wrong}") from None

    def for_faststream(self) -> "BaseSecurity | None":
        """Give the same as FastStream's own type, None for a plain connection."""
        if self.protocol == "PLAINTEXT":
            return None
        from faststream import security

        context = self._ssl_context() if self.protocol.endswith("SSL") else None
        if self.protocol == "SSL":
            return security.BaseSecurity(ssl_context=context)
        mechanisms = {
            "PLAIN": security.SASLPlaintext,
            "SCRAM-SHA-256": security.SASLScram256,
            "SCRAM-SHA-512": security.SASLScram512,
        }
        kind = mechanisms[self.mechanism]
        return kind(self.username, self.password.get_secret_value(), ssl_context=context, use_ssl=context is not None)

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=str(self.ca_file) if self.ca_file else None)
        except (OSError, ssl.SSLError) as problem:
            raise Misconfigured(f"RAA_KAFKA_SECURITY: ca_file {self.ca_file} cannot be read: {problem}") from None


@dataclass(frozen=True, slots=True)
class KafkaTuning:
    """Timings and sizes; the defaults are for production."""

    heartbeat: float = 3.0
    session: float = 10.0
    # how long the group waits for a member that still writes what it holds; aiokafka falls back to the session
    rebalance: float = 30.0
    # the metadata of a topic is refreshed at least so often, which is how new partitions are noticed
    metadata_age: float = 60.0
    # a message waits so long for company. None: a convoy is appended at once, and what comes while a request is under
    # way waits for its end anyway, as the client has one under way to each broker
    linger: float = 0.0
    batch_bytes: int = 65_536
    # a send without an answer counts as unknown after this
    publish_timeout: float = 10.0
    call_timeout: float = 5.0


def connection_options(bootstrap: str, security: KafkaSecurity) -> dict[str, Any]:
    """Give the options that every client of this process shares."""
    servers = [server.strip() for server in bootstrap.split(",") if server.strip()]
    if not servers:
        raise Misconfigured("RAA_KAFKA_BOOTSTRAP is empty; set it to host:port, several separated by commas")
    options: dict[str, Any] = {"bootstrap_servers": servers}
    described = security.for_faststream()
    if described is not None:
        from faststream.kafka.security import parse_security

        options |= parse_security(described)
    return options


def faststream_broker(bootstrap: str, security: KafkaSecurity) -> "KafkaBroker":
    """Build a FastStream broker on the same cluster, for services that users attach to the bus."""
    from faststream.kafka import KafkaBroker

    servers = [server.strip() for server in bootstrap.split(",") if server.strip()]
    return KafkaBroker(servers, security=security.for_faststream())


def translate(problem: BaseException, doing: str) -> BaseException:
    """Turn a client's error into ours; anything that is no error of the client or the network comes back as it is."""
    if isinstance(problem, RaaError):
        return problem
    if isinstance(problem, _MEMBERSHIP_LOST):
        return TransientError(f"{doing}: the group no longer counts on this member for all of these partitions")
    if isinstance(problem, _REFUSED_BY_BROKER):
        return Misconfigured(f"{doing}: Kafka refuses: {problem!r}; give this principal the rights in deploy/kafka")
    if isinstance(problem, kafka_errors.KafkaError | OSError):
        return DependencyUnavailable(f"{doing}: Kafka does not answer as it should: {problem!r}")
    return problem


async def within(seconds: float, work: Coroutine[Any, Any, T], doing: str) -> T:
    """Run a client call under our own deadline, in a task of its own.

    aiokafka waits for ever in several calls when the broker is away, and cancels itself in others; here both end as
    DependencyUnavailable. A real cancellation passes through.
    """
    task = asyncio.ensure_future(work)
    task.add_done_callback(_retrieve)
    try:
        await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.cancel()
    if not task.done():
        raise DependencyUnavailable(f"{doing}: no answer from Kafka in {seconds:g} s")
    if task.cancelled():
        raise DependencyUnavailable(f"{doing}: the connection to Kafka was closed")
    problem = task.exception()
    if problem is not None:
        raise translate(problem, doing) from problem
    return task.result()


def _retrieve(task: "asyncio.Future[Any]") -> None:
    """Look at the outcome of a call nobody waits for any more, so that asyncio does not complain about it."""
    if not task.cancelled():
        task.exception()
