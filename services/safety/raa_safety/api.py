"""Safety's HTTP routes: the keys that verify grants, the kill switch, the approvals that wait."""

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Header, HTTPException, Query
from pydantic import BaseModel, Field

from raa_runtime.errors import TransientError
from raa_runtime.scope import TenantScope, scope_of
from raa_runtime.service import Service
from raa_runtime.telemetry import Logger
from raa_safety.domain.keyring import GRANT_KEYS, KEYRING, GrantKey, valid_keys
from raa_safety.domain.switch import EVERYBODY, SWITCH, Switch, Turn, effective, switch_of, turn
from raa_safety.domain.task import TASK, WAITING, SafetyTask
from raa_schemas.approval import OpenApproval, OpenApprovals
from raa_schemas.ids import TENANT_PATTERN, TenantId

T = TypeVar("T")
TenantHeader = Annotated[str, Header(alias="x-raa-tenant", pattern=TENANT_PATTERN)]
TenantName = Annotated[str | None, Query(pattern=TENANT_PATTERN)]


class SwitchTurn(BaseModel):
    """The body of POST /v1/killswitch."""

    tenant: str | None = Field(None, pattern=TENANT_PATTERN, description="null: everybody")
    on: bool = Field(description="true: no step starts any more")
    why: str = Field("", max_length=500, description="for whoever finds it on")
    by: str = Field("", max_length=128, description="who turns it")


def routes(service: Callable[[], Service], own: GrantKey, revoked: frozenset[str], log: Logger) -> APIRouter:
    """Build the routes; `service` is asked for at each request, because it is put together after them."""
    router = APIRouter(prefix="/v1")

    @router.get("/keys")
    async def keys() -> dict[str, list[dict[str, str]]]:
        """List the public keys that verify grants, the signing one first."""
        found = await _or_503(service().store(KEYRING).find(scope_of(GRANT_KEYS), GRANT_KEYS))
        valid = valid_keys(own, found.state if found else None, revoked)
        return {"keys": [key.model_dump(include={"key_id", "public_key"}) for key in valid]}

    @router.get("/killswitch")
    async def read_switch(
        tenant: TenantName = None,
        x_raa_tenant: Annotated[str | None, Header(pattern=TENANT_PATTERN)] = None,
    ) -> dict[str, Any]:
        """Say whether steps of a tenant may start; without a tenant, whether those of everybody may."""
        name = x_raa_tenant or tenant
        everybody = await _switch(service(), EVERYBODY)
        own_switch = await _switch(service(), switch_of(name)) if name else None
        return effective(everybody, own_switch).model_dump(mode="json")

    @router.post("/killswitch")
    async def turn_switch(body: SwitchTurn) -> dict[str, Any]:
        """Stop or release a tenant or everybody; stored before it answers."""
        turned = Turn(body.on, body.why, body.by)
        switch = await _or_503(service().call(SWITCH, switch_of(body.tenant), turn, turned))
        log.warning("killswitch_turned", tenant=body.tenant or "everybody", on=body.on, why=body.why, by=body.by)
        return switch.model_dump(mode="json")

    @router.get("/approvals")
    async def approvals(x_raa_tenant: TenantHeader) -> OpenApprovals:
        """List a tenant's approvals that wait for people, oldest first."""
        scope = TenantScope(TenantId(x_raa_tenant))
        found = await _or_503(service().store(TASK).scan(scope, WAITING))
        waiting = [one for aggregate in found for one in open_approvals(aggregate.task_id, aggregate.state)]
        return OpenApprovals(approvals=sorted(waiting, key=lambda one: one.asked_at))

    return router


def open_approvals(task_id: str, state: SafetyTask) -> list[OpenApproval]:
    """List the approvals of one task as the outside sees them."""
    return [
        OpenApproval.model_validate(approval.model_dump() | {"task_id": task_id, "answers": approval.votes})
        for approval in state.approvals.values()
    ]


async def _switch(service: Service, aggregate: str) -> Switch | None:
    found = await _or_503(service.store(SWITCH).find(scope_of(aggregate), aggregate))
    return found.state if found else None


async def _or_503(work: Awaitable[T]) -> T:
    """Let a store that is away look like what it is: executors then start nothing."""
    try:
        return await work
    except TransientError as problem:
        raise HTTPException(503, f"safety's store does not answer: {problem}; try again") from None
