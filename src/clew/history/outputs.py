"""What a tool answered, as text."""

from __future__ import annotations

from typing import Any, cast

from clew.history.payload import object_from, part_texts, text

__all__ = ["output_of"]


def output_of(item: dict[str, Any]) -> str | None:
    """The text of a response item that answers a call (its type ends in `_output`), None for other items and for
    answers without text (images). Old versions packed text and exit code into a JSON string; the text is what counts.
    """
    kind = text(item.get("type"))
    if kind is None or not kind.endswith("_output"):
        return None
    return _text_of(item.get("output"))


def _text_of(output: Any) -> str | None:
    if isinstance(output, str):
        if output.startswith("{"):
            packed = object_from(output.encode("utf-8", "surrogatepass"))
            if packed is not None and isinstance(packed.get("output"), str):
                return packed["output"]
        return output or None
    if isinstance(output, dict):
        members = cast("dict[str, Any]", output)
        return _text_of(members.get("content")) or _text_of(members.get("body"))
    return "\n".join(part_texts(output)) or None
