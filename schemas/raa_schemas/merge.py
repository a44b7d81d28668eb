"""JSON merge patch (RFC 7396) as lessons use it: lists are united, references and escapes are values, never merged."""

from typing import Any

from raa_schemas.canonical import canonical_bytes
from raa_schemas.plan import as_reference


def merge_patch(target: Any, patch: Any) -> Any:
    """Apply a patch: objects are merged, null removes a key, lists are united in order, anything else replaces.

    Leaves its arguments as they are. Applying the same patch twice changes nothing more.
    """
    if isinstance(target, list) and isinstance(patch, list):
        return _united(target, patch)
    if not _is_object(patch):
        return patch
    merged = dict(target) if _is_object(target) else {}
    for key, item in patch.items():
        if item is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), item)
    return merged


def difference(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Make the smallest patch that turns `before` into `after`.

    Of a list only what was added is kept: uniting lists cannot take anything away.
    """
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, new in after.items():
        if key not in before:
            patch[key] = new
            continue
        old = before[key]
        if _same(old, new):
            continue
        if _is_object(old) and _is_object(new):
            patch[key] = difference(old, new)
        elif isinstance(old, list) and isinstance(new, list):
            patch |= {key: added} if (added := _added(old, new)) else {}
        else:
            patch[key] = new
    return patch


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and as_reference(value) is None and value.keys() != {"literal"}


def _united(target: list[Any], patch: list[Any]) -> list[Any]:
    return [*target, *_added(target, patch)]


def _added(before: list[Any], after: list[Any]) -> list[Any]:
    known = {canonical_bytes(item) for item in before}
    added: list[Any] = []
    for item in after:
        if (key := canonical_bytes(item)) not in known:
            known.add(key)
            added.append(item)
    return added


def _same(one: Any, other: Any) -> bool:
    return canonical_bytes(one) == canonical_bytes(other)
