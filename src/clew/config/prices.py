"""What models cost, where the user says so: the tables `[stats.prices.MODEL]`. There is no list of prices here."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from clew.config.reader import Reader

__all__ = ["PRICE_KEYS", "Price", "read_prices"]

PRICE_KEYS = ("input", "cached", "output")


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What a million tokens of a model cost, in whatever currency the user thinks in; `cached` None: as `input`."""

    input: float
    output: float
    cached: float | None = None


def read_prices(reader: Reader) -> tuple[dict[str, Price], list[str]]:
    """Prices by model, and sentences about keys that mean nothing. Wrong ones become the reader's problems."""
    found: dict[str, Price] = {}
    unknown: list[str] = []

    def tell(path: tuple[str, ...], known: tuple[str, ...]) -> None:
        place = reader.merged.source(path)
        unknown.append(f"{place}: `{'.'.join(path)}` is not known; known are {', '.join(known)}.")

    for key in reader.table("stats"):
        if key != "prices":
            tell(("stats", key), ("prices",))
    for model in reader.table("stats", "prices"):
        at = ("stats", "prices", model)
        table = reader.table(*at)
        for key in table:
            if key not in PRICE_KEYS:
                tell((*at, key), PRICE_KEYS)
        given = {key: _amount(reader, (*at, key)) for key in PRICE_KEYS}
        for key in ("input", "output"):
            if isinstance(reader.merged.get(at), dict) and table.get(key) is None:
                reader.problems.append(reader.wrong(at, f"missing field `{key}`, the price of a million tokens"))
        if given["input"] is not None and given["output"] is not None:
            found[model] = Price(input=given["input"], output=given["output"], cached=given["cached"])
    return found, unknown


def _amount(reader: Reader, path: tuple[str, ...]) -> float | None:
    value: Any = reader.merged.get(path)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value) or value < 0:
        reader.problems.append(reader.wrong(path, f"invalid value: `{value}`, expected a price from 0 up"))
        return None
    return float(value)
