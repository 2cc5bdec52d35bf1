"""The smallest value that a JSON schema accepts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

__all__ = ["instance"]

_DEEPEST = 12
_FORMATS = {
    "date": "2026-01-01",
    "date-time": "2026-01-01T00:00:00Z",
    "time": "00:00:00Z",
    "duration": "PT0S",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "127.0.0.1",
    "ipv6": "::1",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}
_GUESSES = ("", "a", "A", "0", "1", "00", "a1", "A-1", "2026-01-01", "00:00", "#000000", "1.0.0")


def instance(schema: Mapping[str, Any], text: str = "") -> Any:
    """A value for `schema` with only what is required; `text` stands in the first string that may say anything.

    Understands what structured outputs use: objects, arrays, enums, constants, unions, references within the schema,
    bounds, lengths and formats. A pattern is met where a simple guess meets it.
    """
    return _Maker(schema, text).value(schema, 0)


class _Maker:
    def __init__(self, root: Mapping[str, Any], text: str) -> None:
        self._root = root
        self._text: str | None = text or None

    def value(self, schema: object, depth: int) -> Any:
        if not isinstance(schema, Mapping):
            return None  # `true`: anything goes
        known = self._whole(cast("Mapping[str, Any]", schema), depth)
        if "const" in known:
            return known["const"]
        if known.get("enum"):
            return known["enum"][0]
        for union in ("anyOf", "oneOf"):
            if options := known.get(union):
                rest = {name: part for name, part in known.items() if name != union}
                return self.value(_merged(rest, self._choice(options, depth)), depth + 1)
        kind = known.get("type") or self._guess(known)
        if isinstance(kind, list):
            kinds = cast("list[str]", kind)
            kind = "null" if "null" in kinds and depth > _DEEPEST else next((k for k in kinds if k != "null"), "null")
        match kind:
            case "object":
                fields: Mapping[str, Any] = known.get("properties") or {}
                return {name: self.value(fields.get(name, True), depth + 1) for name in known.get("required") or ()}
            case "array":
                return self._array(known, depth)
            case "string":
                return self._string(known)
            case "integer" | "number":
                return _number(known, whole=kind == "integer")
            case "boolean":
                return False
            case _:
                return None

    def _whole(self, schema: Mapping[str, Any], depth: int) -> dict[str, Any]:
        known = dict(schema)
        for _ in range(_DEEPEST):
            reference = known.pop("$ref", None)
            if not isinstance(reference, str):
                break
            known = _merged(self._target(reference), known)
        for part in cast("Sequence[Mapping[str, Any]]", known.pop("allOf", ())):
            known = _merged(known, self._whole(part, depth + 1) if depth < _DEEPEST else part)
        return known

    def _target(self, reference: str) -> Mapping[str, Any]:
        target: object = self._root
        for name in reference.removeprefix("#").strip("/").split("/"):
            if name and isinstance(target, Mapping):
                target = cast("Mapping[str, Any]", target).get(name.replace("~1", "/").replace("~0", "~"))
        return cast("Mapping[str, Any]", target) if isinstance(target, Mapping) else {}

    def _choice(self, options: Sequence[Mapping[str, Any]], depth: int) -> Mapping[str, Any]:
        # A recursive schema ends where one of its options is simple.
        if depth > _DEEPEST // 2:
            plain = [option for option in options if "$ref" not in option and option.get("type") != "object"]
            return plain[0] if plain else options[-1]
        return options[0]

    @staticmethod
    def _guess(known: Mapping[str, Any]) -> str:
        hints = {"properties": "object", "required": "object", "items": "array", "minLength": "string"}
        hints |= {"format": "string", "pattern": "string", "minimum": "number", "maximum": "number"}
        return next((kind for name, kind in hints.items() if name in known), "null")

    def _array(self, known: Mapping[str, Any], depth: int) -> list[Any]:
        first: Sequence[object] = known.get("prefixItems") or ()
        count = int(known.get("minItems", 0))
        return [
            self.value(first[place] if place < len(first) else known.get("items", True), depth + 1)
            for place in range(count)
        ]

    def _string(self, known: Mapping[str, Any]) -> str:
        shortest, longest = int(known.get("minLength", 0)), known.get("maxLength")
        if (pattern := known.get("pattern")) is not None:
            return next((guess for guess in (*_GUESSES, self._text or "") if re.search(pattern, guess)), "")
        if known.get("format") in _FORMATS:
            return _FORMATS[known["format"]]
        said = ""
        if self._text is not None and (longest is None or len(self._text) <= longest):
            said, self._text = self._text, None
        return said.ljust(shortest, ".")


def _merged(base: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    result = {**base, **more}
    if "properties" in base and "properties" in more:
        result["properties"] = {**base["properties"], **more["properties"]}
    if "required" in base and "required" in more:
        result["required"] = list(dict.fromkeys((*base["required"], *more["required"])))
    return result


def _number(known: Mapping[str, Any], *, whole: bool) -> int | float:
    step = known.get("multipleOf") or 1
    low, above = known.get("minimum", -math.inf), known.get("exclusiveMinimum", -math.inf)
    high, below = known.get("maximum", math.inf), known.get("exclusiveMaximum", math.inf)
    value: int | float = 0
    if value < low or value <= above:
        value = math.ceil(max(low, above) / step) * step
        value += step if value <= above else 0
    elif value > high or value >= below:
        value = math.floor(min(high, below) / step) * step
        value -= step if value >= below else 0
    if not whole and not (low <= value <= high and above < value < below):
        value = (max(low, above) + min(high, below)) / 2  # no whole number fits between the bounds
    return value
