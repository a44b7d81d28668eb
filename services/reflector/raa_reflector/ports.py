"""What the reflector needs of the outside: outputs that were too large to travel inside an event."""

from typing import Any, Protocol

from raa_runtime.scope import TenantScope


class Outputs(Protocol):
    """Outputs of steps, by reference."""

    async def find(self, scope: TenantScope, task_id: str, reference: str) -> Any:
        """Load an output; None if it is larger than this service reads. Raises ClaimGone if it is not there."""
        ...
