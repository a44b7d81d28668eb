"""The plan as a graph: what a step waits for, what came before it, and what the workspace holds after it."""

from collections.abc import Iterable, Mapping

from raa_schemas.artifact import Artifact
from raa_schemas.plan import Step, dependencies

Needs = Mapping[str, Iterable[str]]


def needs_of(step: Step) -> list[str]:
    """Name the steps that must end first, sorted. One whose arguments nest too deeply waits for itself: for ever."""
    try:
        return sorted(dependencies(step))
    except ValueError:
        return [step.id]


def ancestors(step: str, needs: Needs) -> set[str]:
    """Name all steps that are ordered before this one."""
    found: set[str] = set()
    waiting = list(needs.get(step, ()))
    while waiting:
        before = waiting.pop()
        if before not in found:
            found.add(before)
            waiting.extend(needs.get(before, ()))
    return found


def conflict(step: str, changed: Iterable[Artifact], written: Mapping[str, list[Artifact]], needs: Needs) -> str | None:
    """Name the path that this step and one not ordered before it wrote with different content, if there is one.

    `written` maps each step that ended earlier to the files it wrote.
    """
    own = {artifact.name: artifact.sha256 for artifact in changed}
    ordered = ancestors(step, needs) if own else set()
    for other, artifacts in written.items():
        for artifact in artifacts if other not in ordered else ():
            if own.get(artifact.name, artifact.sha256) != artifact.sha256:
                return artifact.name
    return None


def workspace(inputs: Iterable[Artifact], written: Iterable[list[Artifact]]) -> list[Artifact]:
    """Fold the files that steps wrote, in the order in which they ended, into the workspace; sorted by name."""
    files = {artifact.name: artifact for artifact in inputs}
    for artifacts in written:
        files |= {artifact.name: artifact for artifact in artifacts}
    return [files[name] for name in sorted(files)]
