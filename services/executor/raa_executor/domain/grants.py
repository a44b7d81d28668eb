"""Checks a grant: signed by safety, for exactly this step at this place, for these arguments, still valid."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from raa_executor.domain.moves import Scene
from raa_schemas.canonical import canonical_bytes, digest
from raa_schemas.plan import Grant, Step, as_reference
from raa_schemas.step import Risk

Verdict = Literal["valid", "absent", "expired", "unknown_key", "external", "forged"]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a grant has to cover. `args` is None where the bound arguments are checked later, against `args_hash`."""

    plan_version: int
    definition: Step
    args: dict[str, Any] | None
    args_hash: str
    risk: Risk


def judge(grant: Grant | None, claim: Claim, scene: Scene) -> Verdict:
    """Judge a grant; `forged` for everything that safety cannot have signed for this step.

    `absent`, `expired`, `unknown_key` and `external` (a template is not enough for an external tool) mean: ask safety.
    """
    if grant is None:
        return "absent"
    content = grant.signed_content(scene.deployment, scene.tenant, scene.task_id, claim.plan_version)
    signature = scene.keys.check(grant.key_id, canonical_bytes(content), grant.signature)
    if signature == "unknown_key":
        return "unknown_key"
    if signature == "bad" or not _covers(grant, claim):
        return "forged"
    if grant.covers == "template" and claim.risk == "external":
        return "external"
    return "expired" if grant.expires_at <= scene.now else "valid"


def _covers(grant: Grant, claim: Claim) -> bool:
    definition = claim.definition
    if (grant.step, grant.tool) != (definition.id, definition.tool):
        return False
    if claim.args is not None and digest(claim.args) != claim.args_hash:
        return False
    if grant.covers == "bound":
        return grant.args_hash == claim.args_hash
    return grant.args_hash == digest(definition.args) and (claim.args is None or fits(definition.args, claim.args))


def fits(template: Any, value: Any) -> bool:
    """Say whether bound arguments can come from this template: only where it has a reference may they differ."""
    if as_reference(template) is not None:
        return True
    if isinstance(template, Mapping):
        if template.keys() == {"literal"}:
            return canonical_bytes(template["literal"]) == canonical_bytes(value)
        same_keys = isinstance(value, Mapping) and template.keys() == value.keys()
        return same_keys and all(fits(item, value[key]) for key, item in template.items())
    if isinstance(template, list):
        same_length = isinstance(value, list) and len(template) == len(value)
        return same_length and all(fits(item, value[place]) for place, item in enumerate(template))
    return canonical_bytes(template) == canonical_bytes(value)
