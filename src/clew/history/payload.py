"""Careful hands for payloads of unknown origin: helpers give None (or nothing) where a value is not as expected."""

from __future__ import annotations

from typing import Any, cast
from urllib.parse import unquote, urlsplit

import msgspec

__all__ = ["encode", "integer", "object_from", "objects", "part_texts", "path_text", "text", "words"]

_decoder = msgspec.json.Decoder()
_encoder = msgspec.json.Encoder()


def object_from(raw: bytes | msgspec.Raw | None) -> dict[str, Any] | None:
    """The JSON object in `raw`; None for anything else, also for what cannot be decoded."""
    if raw is None:
        return None
    try:
        value = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def encode(value: Any) -> bytes:
    """The value as JSON without spaces."""
    return _encoder.encode(value)


def text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def integer(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def objects(value: Any) -> list[dict[str, Any]]:
    """The objects of a list; other members are left out."""
    if not isinstance(value, list):
        return []
    return [cast("dict[str, Any]", member) for member in cast("list[Any]", value) if isinstance(member, dict)]


def words(value: Any) -> list[str]:
    """The strings of a list; other members are left out."""
    if not isinstance(value, list):
        return []
    return [member for member in cast("list[Any]", value) if isinstance(member, str)]


def part_texts(content: Any) -> list[str]:
    """The texts of a message's content parts, in order; a bare string counts as one part."""
    if isinstance(content, str):
        return [content]
    return [part["text"] for part in objects(content) if isinstance(part.get("text"), str)]


def path_text(value: Any) -> str | None:
    """A path, also one that stands there as a `file://` URL; None for what is none."""
    path = text(value)
    if path is not None and path.startswith("file://"):
        try:
            path = unquote(urlsplit(path).path)
        except ValueError:
            return None
    return path or None
