"""Which threads are kept for how long: the table `[retention]`. Without it, nothing is ever done."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, cast

import msgspec

from clew.config.positions import KeyPath
from clew.config.reader import Reader

__all__ = ["RETENTION_KEYS", "RULE_KEYS", "Retention", "RetentionRule", "read_retention"]

RETENTION_KEYS = ("keep_newest", "keep_tags", "rules")
RULE_KEYS = ("action", "archived_only", "larger_than", "older_than", "sources", "tags")
ACTIONS = ("archive", "compress", "trash")
DAY = 86_400
KEPT = 10
"""Newest threads that no rule touches, where the configuration says nothing."""

_SPAN = re.compile(r"(\d{1,6})\s*([hdw])")
_SECONDS = {"h": 3600, "d": DAY, "w": 7 * DAY}
_SIZE = re.compile(r"(\d{1,9})\s*(kB|MB|GB)")
_BYTES = {"kB": 10**3, "MB": 10**6, "GB": 10**9}


class RetentionRule(msgspec.Struct, frozen=True, kw_only=True):
    """What is done to the threads that fit all that is named. `older_than`: seconds since the last write;
    `larger_than`: bytes that all threads that fit may have together, beyond which the oldest go; `sources` and `tags`:
    one of them."""

    name: str
    action: Literal["archive", "compress", "trash"]
    older_than: int | None = None
    larger_than: int | None = None
    sources: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    archived_only: bool = False


class Retention(msgspec.Struct, frozen=True, kw_only=True):
    """The rules in their order; the first that fits a thread counts. Threads with one of `keep_tags`, and the
    `keep_newest` written last, are never touched."""

    rules: tuple[RetentionRule, ...] = ()
    keep_tags: tuple[str, ...] = ("keep",)
    keep_newest: int = KEPT


def read_retention(reader: Reader) -> Retention:
    """The rules. Whatever is wrong in them becomes the reader's problems: a rule that is half understood would delete
    what it should not."""
    for key in reader.table("retention"):
        if key not in RETENTION_KEYS:
            _unknown(reader, ("retention", key), RETENTION_KEYS)
    newest = reader.count("retention", "keep_newest", most=10**9)
    tags = reader.texts("retention", "keep_tags")
    rules = [_rule(reader, name) for name in reader.table("retention", "rules")]
    return Retention(
        rules=tuple(rule for rule in rules if rule is not None),
        keep_tags=("keep",) if tags is None else tags,
        keep_newest=KEPT if newest is None else newest,
    )


def _rule(reader: Reader, name: str) -> RetentionRule | None:
    at = ("retention", "rules", name)
    problems = len(reader.problems)
    table = reader.table(*at)
    for key in table:
        if key not in RULE_KEYS:
            _unknown(reader, (*at, key), RULE_KEYS)
    action = reader.choice(*at, "action", allowed=ACTIONS)
    if action is None and len(reader.problems) == problems:
        reader.problems.append(reader.wrong(at, f"missing field `action`, one of {', '.join(ACTIONS)}"))
    older = _measured(reader, (*at, "older_than"), _SPAN, _SECONDS, 'a span like "90d" (h, d or w)')
    larger = _measured(reader, (*at, "larger_than"), _SIZE, _BYTES, 'a size like "20GB" (kB, MB or GB)')
    words = {key: reader.texts(*at, key) for key in ("sources", "tags")}
    for key, value in words.items():
        if value == ():
            reader.problems.append(reader.wrong((*at, key), "an empty list fits nothing; leave it out"))
    archived = reader.flag(*at, "archived_only")
    if "older_than" not in table and "larger_than" not in table:
        # Without a limit of age or size it would be all threads at once.
        reader.problems.append(reader.wrong(at, "missing field `older_than` or `larger_than`"))
    if len(reader.problems) > problems:
        return None
    return RetentionRule(
        name=name,
        action=cast("Any", action),
        older_than=older,
        larger_than=larger,
        sources=words["sources"] or (),
        tags=words["tags"] or (),
        archived_only=archived or False,
    )


def _measured(reader: Reader, path: KeyPath, form: re.Pattern[str], units: dict[str, int], expected: str) -> int | None:
    value = reader.text(*path)
    if value is None:
        return None
    found = form.fullmatch(value.strip())
    if found is None:
        reader.problems.append(reader.wrong(path, f"invalid value: {value!r}, expected {expected}"))
        return None
    return int(found[1]) * units[found[2]]


def _unknown(reader: Reader, path: KeyPath, known: Sequence[str]) -> None:
    reader.problems.append(reader.wrong(path, f"is not known; known are {', '.join(known)}"))
