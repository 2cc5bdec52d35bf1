"""What the model was last told about the world: snapshots and merge patches (RFC 7386).

The state is bookkeeping for deciding what to say next; it is never itself sent. Section names are open-ended.
"""

from __future__ import annotations

from typing import Any, cast

__all__ = ["advance", "diff", "merge"]


def merge(target: Any, patch: Any) -> Any:
    """`target` with a merge patch applied: null removes a key, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    merged: dict[str, Any] = dict(cast("dict[str, Any]", target)) if isinstance(target, dict) else {}
    for key, value in cast("dict[str, Any]", patch).items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def diff(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """The patch that leads from `old` to `new`, empty when nothing changed. Null members of `new` count as absent."""
    patch: dict[str, Any] = {key: None for key, value in old.items() if value is not None and new.get(key) is None}
    for key, value in new.items():
        before = old.get(key)
        if value is None or value == before:
            continue
        if isinstance(value, dict) and isinstance(before, dict):
            inner = diff(cast("dict[str, Any]", before), cast("dict[str, Any]", value))
            if inner:
                patch[key] = inner
        elif isinstance(value, dict):
            patch[key] = _without_nulls(cast("dict[str, Any]", value))
        else:
            patch[key] = value
    return patch


def _without_nulls(value: dict[str, Any]) -> dict[str, Any]:
    return {
        key: _without_nulls(cast("dict[str, Any]", inner)) if isinstance(inner, dict) else inner
        for key, inner in value.items()
        if inner is not None
    }


def advance(current: dict[str, Any] | None, payload: dict[str, Any]) -> dict[str, Any] | None:
    """The state after a `world_state` line: a full one replaces; a patch applies, or is ignored without a state.

    A payload that is neither clears the state, so that everything is told again.
    """
    state = payload.get("state")
    if not isinstance(state, dict):
        return None
    if payload.get("full"):
        return cast("dict[str, Any]", state)
    if current is None:
        return None
    return cast("dict[str, Any]", merge(current, state))
