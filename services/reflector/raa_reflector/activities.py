"""The reflector's work outside its lanes: fetch outputs that travelled by reference."""

from dataclasses import dataclass
from typing import Any, Final

from raa_reflector.ports import Outputs
from raa_runtime.activities import Call

FETCH: Final = "fetch"


@dataclass(frozen=True, slots=True)
class Fetching:
    """The activity `fetch`: args `{plan_version, references: {step: reference}}`, gives `{step: output}`.

    Outputs that are too large to look at are left out. A reference whose blob is gone fails it.
    """

    outputs: Outputs

    async def __call__(self, call: Call) -> dict[str, Any]:
        """Load them one by one."""
        found: dict[str, Any] = {}
        for step, reference in call.args["references"].items():
            output = await self.outputs.find(call.scope, call.task_id, reference)
            if output is not None:
                found[step] = output
        return found
