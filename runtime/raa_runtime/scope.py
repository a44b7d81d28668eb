"""The tenant as a type: no store, cache or blob can be read without saying whose data is meant."""

from dataclasses import dataclass

from raa_schemas.ids import TenantId, is_tenant_id, tenant_of


@dataclass(frozen=True, slots=True)
class TenantScope:
    """The right to one tenant's data, and to no other's. Raises ValueError for a malformed tenant."""

    tenant: TenantId

    def __post_init__(self) -> None:
        if not is_tenant_id(self.tenant):
            raise ValueError(f"{self.tenant!r} is no tenant id")

    def owns(self, aggregate: str) -> bool:
        """Say whether an aggregate id belongs to this tenant."""
        return tenant_of(aggregate) == self.tenant


def scope_of(aggregate: str) -> TenantScope:
    """Give the scope of the tenant that an aggregate id names."""
    return TenantScope(tenant_of(aggregate))
