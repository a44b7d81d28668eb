"""The kill switch: one for each tenant and one for everybody, kept so that a restart forgets neither."""

from datetime import datetime
from typing import NamedTuple

from raa_runtime.state.aggregate import State
from raa_runtime.state.codec import Kind
from raa_runtime.unit import Unit
from raa_schemas.ids import DEFAULT_TENANT, AggregateId


class Switch(State):
    """While it is on, no step starts."""

    on: bool = False
    why: str = ""
    by: str = ""
    since: datetime | None = None


class Turn(NamedTuple):
    """Somebody turns a switch."""

    on: bool
    why: str
    by: str


SWITCH = Kind("switch", Switch)
# the collection is the switches' own, so that this name meets no tenant's
EVERYBODY = AggregateId(f"{DEFAULT_TENANT}/everybody")


def switch_of(tenant: str | None) -> AggregateId:
    """Name the switch of a tenant, or the one that stops everybody."""
    return AggregateId(f"{tenant}/switch") if tenant else EVERYBODY


def turn(unit: Unit[Switch], turned: Turn) -> Switch:
    """Turn a switch; turning it the way it stands changes only the reason."""
    if unit.state.on != turned.on or unit.state.since is None:
        unit.state.since = unit.now
    unit.state.on, unit.state.why, unit.state.by = turned.on, turned.why, turned.by
    return unit.state.model_copy()


def effective(everybody: Switch | None, own: Switch | None) -> Switch:
    """Combine both switches: the one for everybody is named first; off only if both are off."""
    return next((switch for switch in (everybody, own) if switch and switch.on), Switch())
