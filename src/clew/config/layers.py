"""The layers a configuration is made of: files, flags and per-call values, and how they lie over each other."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from clew.config.positions import KeyPath, key_lines, split_key
from clew.errors import ConfigInvalid

__all__ = [
    "Layer",
    "Merged",
    "Source",
    "dotted",
    "flag_layer",
    "map_layer",
    "option_layers",
    "parse_overrides",
    "read_layer",
]

_AT_LINE = re.compile(r" \(at line (\d+), column (\d+)\)$")
_AT_END = " (at end of document)"


class Source(msgspec.Struct, frozen=True):
    """Where a value came from: `name` is a file, a variable or the flag's name; `line` is 1-based, 0 without one."""

    kind: Literal["default", "file", "flag", "call", "env", "auth"]
    name: str = ""
    line: int = 0

    def __str__(self) -> str:
        if self.kind == "default":
            return "default"
        return f"{self.name}:{self.line}" if self.line else self.name

    def invalid(self, why: str, key: str) -> ConfigInvalid:
        """The error for a wrong value from here."""
        # Per-call values are answered in the words and the line breaks that clients of Codex' server know.
        return ConfigInvalid(
            self.name, self.line, f"{why}\nin `{key}`\n" if self.kind == "call" else f"{why} in `{key}`"
        )


class Layer(msgspec.Struct, frozen=True):
    """One set of values. `lines` tell where its keys stand; `folder` is what relative paths in it start from."""

    origin: Source
    values: dict[str, Any]
    folder: Path
    lines: dict[KeyPath, int] = {}

    def source(self, path: KeyPath) -> Source:
        """Where a key of this layer stands, or the nearest table around it."""
        for length in range(len(path), 0, -1):
            line = self.lines.get(path[:length])
            if line is not None:
                return Source(self.origin.kind, self.origin.name, line)
        return self.origin

    def profile(self, name: str) -> Layer | None:
        """The table `[profiles.NAME]` as a layer of its own."""
        profiles = self.values.get("profiles")
        table = cast("dict[str, Any]", profiles).get(name) if isinstance(profiles, dict) else None
        if not isinstance(table, dict):
            return None
        prefix = ("profiles", name)
        lines = {path[2:]: line for path, line in self.lines.items() if path[:2] == prefix and len(path) > 2}
        return Layer(self.origin, cast("dict[str, Any]", table), self.folder, lines)


def read_layer(path: Path) -> Layer | None:
    """A TOML file; None where there is none. Raises `ConfigInvalid` with the line that cannot be read."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigInvalid(path, 0, f"cannot be read: {error.strerror}") from error
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise ConfigInvalid(path, data.count(b"\n", 0, error.start) + 1, "not UTF-8") from error
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message = str(error)
        if place := _AT_LINE.search(message):
            line, why = int(place[1]), f"{message[: place.start()]} (column {place[2]})"
        else:
            line, why = max(text.rstrip("\n").count("\n") + 1, 1), message.removesuffix(_AT_END) + " (end of file)"
        raise ConfigInvalid(path, line, why) from None
    return Layer(Source("file", str(path)), values, path.parent, key_lines(text))


def parse_overrides(flags: Iterable[str]) -> dict[str, Any]:
    """`-c key=value` texts as a map of dotted keys. A value that is not TOML is taken as it is, without quotes."""
    found: dict[str, Any] = {}
    for flag in flags:
        key, equals, text = flag.partition("=")
        if not equals or not key.strip():
            raise ConfigInvalid("-c", 0, f"`{key}` is not of the form key=value")
        found[key.strip()] = _flag_value(text.strip())
    return found


def _flag_value(text: str) -> Any:
    try:
        parsed = tomllib.loads(f"x = {text}")
    except tomllib.TOMLDecodeError:
        return text.strip("\"'")
    # A text with line breaks could smuggle in further keys; then it is no single value.
    return parsed["x"] if len(parsed) == 1 else text


def flag_layer(flags: Sequence[str], folder: Path) -> Layer:
    """The layer of `-c` flags; later flags win."""
    return Layer(Source("flag", "-c"), _nested(parse_overrides(flags), Source("flag", "-c")), folder)


def option_layers(options: Mapping[str, tuple[str, Any]], folder: Path) -> list[Layer]:
    """The layers of options that stand for keys: a dotted key to the option's name and the value, one layer each."""
    out: list[Layer] = []
    for key, (name, value) in options.items():
        source = Source("flag", name)
        out.append(Layer(source, _nested({key: value}, source), folder))
    return out


def map_layer(values: Mapping[str, Any], folder: Path) -> Layer:
    """The layer of a call's own map of dotted keys to JSON values; null means: not mentioned."""
    source = Source("call", "config")
    return Layer(source, _nested(values, source), folder)


def _nested(flat: Mapping[str, Any], source: Source) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in flat.items():
        path = split_key(key)
        if path is None:
            raise ConfigInvalid(source.name, 0, f"`{key}` is not a dotted key")
        if value is None:
            continue
        inner: Any = _without_nulls(value)
        for part in reversed(path):
            inner = {part: inner}
        _lay_over(out, cast("dict[str, Any]", inner))
    return out


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        table = cast("dict[str, Any]", value)
        return {key: _without_nulls(inner) for key, inner in table.items() if inner is not None}
    return value


def _lay_over(base: dict[str, Any], upper: dict[str, Any]) -> None:
    for key, value in upper.items():
        below = base.get(key)
        if isinstance(value, dict) and isinstance(below, dict):
            _lay_over(cast("dict[str, Any]", below), cast("dict[str, Any]", value))
        else:
            base[key] = value


class Merged:
    """All layers laid over each other, each value with the layer it came from."""

    def __init__(self, layers: Iterable[Layer]) -> None:
        self._values: dict[str, Any] = {}
        self._from: dict[KeyPath, Layer] = {}
        for layer in layers:
            self._add(layer, self._values, layer.values, ())

    def _add(self, layer: Layer, base: dict[str, Any], upper: dict[str, Any], at: KeyPath) -> None:
        for key, value in upper.items():
            path = (*at, key)
            if isinstance(value, dict):
                below = base.get(key)
                if not isinstance(below, dict):
                    below = base[key] = dict[str, Any]()
                self._from[path] = layer
                self._add(layer, cast("dict[str, Any]", below), cast("dict[str, Any]", value), path)
            else:
                base[key] = value
                self._from[path] = layer

    def get(self, path: KeyPath) -> Any:
        """The value at a path, None where there is none; a path through something that is no table ends there."""
        value: Any = self._values
        for part in path:
            if not isinstance(value, dict):
                return None
            value = cast("dict[str, Any]", value).get(part)
        return value

    def source(self, path: KeyPath) -> Source:
        layer = self._from.get(path)
        return layer.source(path) if layer is not None else Source("default")

    def folder(self, path: KeyPath) -> Path:
        """What a relative path at this key starts from."""
        return self._from[path].folder


def dotted(path: KeyPath) -> str:
    """The key as one writes it in TOML."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else f'"{part}"' for part in path)
