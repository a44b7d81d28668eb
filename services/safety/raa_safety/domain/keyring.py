"""The public keys that ever signed a grant, of every safety instance on this store."""

from datetime import datetime

from pydantic import Field

from raa_runtime.state.aggregate import State
from raa_runtime.state.codec import Kind
from raa_runtime.unit import Unit
from raa_schemas.ids import DEFAULT_TENANT, AggregateId


class GrantKey(State):
    """One public key: raw Ed25519 in base64."""

    key_id: str
    public_key: str
    since: datetime | None = None


class Keyring(State):
    """All of them by key id. A key stays, so that grants signed before a rotation remain valid until they expire."""

    keys: dict[str, GrantKey] = Field(default_factory=dict)


KEYRING = Kind("keyring", Keyring)
GRANT_KEYS = AggregateId(f"{DEFAULT_TENANT}/grant-keys")


def add_key(unit: Unit[Keyring], key: GrantKey) -> None:
    """Announce a key; announcing it again changes nothing."""
    if key.key_id in unit.state.keys:
        unit.ignore("this key is known")
        return
    unit.state.keys[key.key_id] = key.model_copy(update={"since": unit.now})


def valid_keys(own: GrantKey, ring: Keyring | None, revoked: frozenset[str]) -> list[GrantKey]:
    """List the keys that executors may accept, the one that signs here first; revoked ones are left out."""
    others = [key for key in ring.keys.values() if key.key_id != own.key_id] if ring else []
    return [key for key in (own, *others) if key.key_id not in revoked]
