"""What safety's decisions need from outside: a signature, known keys, the declared tools."""

from collections.abc import Mapping
from typing import Protocol

from raa_schemas.tool import ToolSpec


class Signer(Protocol):
    """Signs grants. Ed25519 is deterministic and local, so that a handler stays repeatable."""

    @property
    def key_id(self) -> str:
        """Name of the key, as GET /v1/keys lists it."""

    def sign(self, content: bytes) -> str:
        """Sign; returns base64."""


class SignatureCheck(Protocol):
    """Verifies a person's signature."""

    def __call__(self, public: str, content: bytes, signature: str) -> bool:
        """Say whether `signature` is the key's over `content`; False for anything malformed. All base64."""


class ApproverKeys(Protocol):
    """The people who may decide."""

    def known(self) -> Mapping[str, str]:
        """Give the newest known public keys: key id to raw Ed25519 key in base64."""


class ToolCatalog(Protocol):
    """The tools that executors offer."""

    def tools(self) -> Mapping[str, ToolSpec]:
        """Give the newest known declarations by name; raises DependencyUnavailable while none are known."""
