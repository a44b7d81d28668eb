"""The one rule that says which tenant a record belongs to."""

from collections.abc import Collection
from dataclasses import dataclass, field

from raa_schemas.envelope import InvalidEventError, TenantMismatchError
from raa_schemas.ids import DEFAULT_TENANT, TenantId, is_tenant_id
from raa_schemas.topics import TENANT_PREFIX


@dataclass(frozen=True, slots=True)
class IntakePolicy:
    """What a deployment allows: records that name no tenant, and which tenants exist (empty: any)."""

    allow_anonymous: bool = False
    tenants: Collection[str] = field(default_factory=frozenset)


def resolve_tenant(topic: str, header: str | None, policy: IntakePolicy) -> TenantId:
    """Resolve the tenant of a record.

    A tenant's own topic binds the tenant, because only its principal may write there; a header must agree. On shared
    topics the header counts, because a Kafka record carries no principal. Raises TenantMismatchError when topic and
    header disagree, InvalidEventError when no tenant is named and the deployment is not open to anonymous records.
    """
    bound = _bound_by(topic)
    if bound and header and header != bound:
        raise TenantMismatchError(
            f"topic {topic!r} belongs to {bound!r}, but ce_tenant says {header!r}; drop the header"
        )
    tenant = bound or header
    if not tenant:
        if not policy.allow_anonymous:
            raise InvalidEventError("the record names no tenant; set the header ce_tenant")
        return DEFAULT_TENANT
    if not is_tenant_id(tenant):
        raise InvalidEventError(f"{tenant[:80]!r} is no tenant id; use up to 63 of a-z, 0-9, _ and -")
    if policy.tenants and tenant not in policy.tenants:
        raise InvalidEventError(f"this deployment has no tenant {tenant!r}; add it to RAA_TENANTS")
    return TenantId(tenant)


def _bound_by(topic: str) -> str | None:
    prefix, _, rest = topic.partition(".")
    return rest.partition(".")[0] if prefix == TENANT_PREFIX and rest else None
