"""Typed reading of merged values: every wrong one becomes a `ConfigInvalid` with its place, and a default."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, cast

from clew.config.layers import Merged, dotted
from clew.config.positions import KeyPath
from clew.errors import ConfigInvalid

__all__ = ["Reader", "is_secret"]

_SECRET_WORDS = ("key", "token", "secret", "password", "sig", "auth", "code")


def is_secret(path: KeyPath) -> bool:
    """Whether the value at this key may be one that nobody should see."""
    *above, name = path
    table = above[-1] if above else ""
    if table == "query_params":
        return any(word in name.lower() for word in _SECRET_WORDS)
    return table == "http_headers" or name == "experimental_bearer_token"


class Reader:
    """Takes values out of `Merged` by type. Problems are collected, so that all of them can be shown at once."""

    def __init__(self, merged: Merged, home: Path) -> None:
        self.merged = merged
        self.problems: list[ConfigInvalid] = []
        self._home = home

    def text(self, *path: str) -> str | None:
        value = self.merged.get(path)
        if value is None or isinstance(value, str):
            return value
        return self._wrong(path, f"{_described(value, path)}, expected a string")

    def flag(self, *path: str) -> bool | None:
        value = self.merged.get(path)
        if value is None or isinstance(value, bool):
            return value
        return self._wrong(path, f"{_described(value, path)}, expected a boolean")

    def count(self, *path: str, most: int = 2**63 - 1) -> int | None:
        """A whole number from 0 up."""
        value = self.merged.get(path)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool):
            return self._wrong(path, f"{_described(value, path)}, expected a whole number")
        if not 0 <= value <= most:
            return self._wrong(path, f"invalid value: integer `{value}`, expected a number from 0 to {most}")
        return value

    def seconds(self, *path: str) -> float | None:
        """A time in seconds, from 0 up."""
        value = self.merged.get(path)
        if value is None:
            return None
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            return self._wrong(path, f"{_described(value, path)}, expected a number of seconds")
        if not math.isfinite(value) or value < 0:
            return self._wrong(path, f"invalid value: `{value}`, expected a number of seconds from 0 up")
        return float(value)

    def texts(self, *path: str) -> tuple[str, ...] | None:
        value = self.merged.get(path)
        if value is None:
            return None
        if not isinstance(value, (list, tuple)):
            return self._wrong(path, f"{_described(value, path)}, expected a list of strings")
        for entry in cast("Sequence[Any]", value):
            if not isinstance(entry, str):
                return self._wrong(path, f"{_described(entry, path)}, expected a string")
        return tuple(cast("Sequence[str]", value))

    def text_map(self, *path: str) -> dict[str, str]:
        table = self.table(*path)
        out: dict[str, str] = {}
        for name in table:
            text = self.text(*path, name)
            if text is not None:
                out[name] = text
        return out

    def table(self, *path: str) -> Mapping[str, Any]:
        value = self.merged.get(path)
        if value is None:
            return {}
        if not isinstance(value, dict):
            self._wrong(path, f"{_described(value, path)}, expected a table")
            return {}
        return cast("Mapping[str, Any]", value)

    def choice(self, *path: str, allowed: Sequence[str]) -> str | None:
        """One of a few words."""
        value = self.text(*path)
        if value is None or value in allowed:
            return value
        return self._wrong(
            path, f"unknown variant `{value}`, expected one of {', '.join(f'`{word}`' for word in allowed)}"
        )

    def path(self, *path: str) -> Path | None:
        """A file name; relative ones start from the folder of the file (or call) that names it."""
        value = self.text(*path)
        return None if value is None else self.absolute(value, path)

    def absolute(self, value: str, path: KeyPath) -> Path:
        if value == "~" or value.startswith("~/"):
            return self._home / value[2:]
        return self.merged.folder(path) / value

    def wrong(self, path: KeyPath, why: str) -> ConfigInvalid:
        """The error for the value at `path`."""
        return self.merged.source(path).invalid(why, dotted(path))

    def _wrong(self, path: KeyPath, why: str) -> None:
        self.problems.append(self.wrong(path, why))


def _described(value: Any, path: KeyPath) -> str:
    """The kind of a value of the wrong type, with the value itself where it is short and no secret."""
    match value:
        case bool():
            kind, shown = "boolean", f" `{str(value).lower()}`"
        case int():
            kind, shown = "integer", f" `{value}`"
        case float():
            kind, shown = "floating point", f" `{value}`"
        case str():
            kind, shown = "string", f" {value!r}" if len(value) <= 40 else ""
        case datetime() | date() | time():
            kind, shown = "datetime", ""
        case list() | tuple():
            kind, shown = "sequence", ""
        case dict():
            kind, shown = "map", ""
        case _:
            kind, shown = "value", ""
    return f"invalid type: {kind}{'' if is_secret(path) else shown}"
