"""Merges patches into arguments: JSON merge patch (RFC 7396), except that lists are united."""

import json
from collections.abc import Mapping, Sequence
from typing import Any


def merged(target: Any, patch: Any) -> Any:
    """Return `target` with `patch` merged in; null removes a member, lists are united, neither input is changed."""
    if isinstance(patch, list) and isinstance(target, list):
        return united(target, patch)
    if not isinstance(patch, Mapping):
        return patch
    result: dict[str, Any] = dict(target) if isinstance(target, Mapping) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def united(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    """Return the items of both lists in order, each once; 1, 1.0 and true are told apart by their JSON."""
    return list({json.dumps(item, sort_keys=True): item for item in [*first, *second]}.values())
