"""Binds arguments to the outputs of earlier steps: at once where they are at hand, else by an activity."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from raa_executor.domain.moves import Start
from raa_executor.domain.run_state import Run
from raa_executor.domain.sizes import INLINE_BYTES, size
from raa_schemas.plan import bind, references

KIND: Final = "bind"
_TIMEOUT: Final = timedelta(minutes=2)


def bind_or_fetch(run: Run, step: str | None, fresh: Mapping[str, Any]) -> Any:
    """Return the bound arguments of a step (None: the plan's result), or a `Start` of the activity that binds them.

    `fresh` holds outputs that are too large for the state but came with the event at hand. Raises
    UnboundReferenceError.
    """
    template = run.result if step is None else run.steps[step].args
    named = {reference.step for reference in references(template)}
    at_hand = {
        name: fresh[name] if name in fresh else run.progress[name].output
        for name in named
        if name in fresh or _inline(run, name)
    }
    elsewhere = {name: ref for name in named - at_hand.keys() if (ref := _reference(run, name))}
    if not elsewhere:
        bound = bind(template, at_hand)
        if size(bound) <= INLINE_BYTES:
            return bound
    outputs = {name: {"value": value} for name, value in at_hand.items()}
    outputs |= {name: {"ref": ref} for name, ref in elsewhere.items()}
    args = {"plan_version": run.version, "step": step, "template": template, "outputs": outputs}
    return Start(activity_name(run.version, step), KIND, args, _TIMEOUT)


def activity_name(version: int, step: str | None) -> str:
    """Name the activity that binds a step's arguments, or the result."""
    return f"result/v{version}" if step is None else f"{KIND}/v{version}/{step}"


def _inline(run: Run, step: str) -> bool:
    progress = run.progress.get(step)
    return progress is not None and progress.outcome == "succeeded" and progress.output_ref is None


def _reference(run: Run, step: str) -> str | None:
    progress = run.progress.get(step)
    return None if progress is None else progress.output_ref
