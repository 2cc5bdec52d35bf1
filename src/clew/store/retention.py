"""What the rules of a configuration would do to the threads of a home. Pure: it decides, others do it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Literal

import msgspec

from clew.config.retention import Retention, RetentionRule
from clew.store.queries import ThreadSummary

__all__ = ["Due", "Spared", "plan_retention"]


class Due(msgspec.Struct, frozen=True, kw_only=True):
    """A thread to which a rule does something, with the ids of those it spawned that go with it. `failed` says why it
    was not done, None while it was not tried or when it was done."""

    thread: ThreadSummary
    rule: str
    action: Literal["archive", "compress", "trash"]
    also: tuple[str, ...] = ()
    failed: str | None = None


class Spared(msgspec.Struct, frozen=True, kw_only=True):
    """A thread that fits a rule and is kept; `why`, in words."""

    thread: ThreadSummary
    rule: str
    why: str


def plan_retention(
    threads: Sequence[ThreadSummary],
    retention: Retention,
    *,
    now: datetime,
    held: Collection[str] = (),
    packed: Collection[str] = (),
) -> tuple[tuple[Due, ...], tuple[Spared, ...]]:
    """What is due, and what fits a rule and is kept. The first rule that fits a thread counts.

    `held` are threads that somebody writes, `packed` those that are compressed already. Whatever a thread spawned goes
    with it, so a thread is kept with any of these.
    """
    newest = sorted(threads, key=lambda one: (one.updated_at, one.id), reverse=True)
    kept = _kept(newest, retention, held)
    families = _families(newest)
    done: set[str] = set()
    due: list[Due] = []
    spared: list[Spared] = []
    for rule in retention.rules:
        for thread in _fitting(newest, rule, now, packed):
            if thread.id in done:
                continue
            done.add(thread.id)
            also = () if rule.action == "compress" else families.get(thread.id, ())
            why = kept.get(thread.id)
            if why is None:
                why = next((f"it spawned {one}, and {kept[one]}" for one in also if one in kept), None)
            if why is not None:
                spared.append(Spared(thread=thread, rule=rule.name, why=why))
                continue
            due.append(Due(thread=thread, rule=rule.name, action=rule.action, also=also))
    # What goes with another one needs no step of its own.
    taken = {one for each in due if each.action == "trash" for one in each.also}
    return tuple(each for each in due if each.thread.id not in taken), tuple(spared)


def _kept(newest: Sequence[ThreadSummary], retention: Retention, held: Collection[str]) -> dict[str, str]:
    kept = {thread.id: f"it is one of the newest {retention.keep_newest}" for thread in newest[: retention.keep_newest]}
    for thread in newest:
        tags = sorted(set(thread.tags) & set(retention.keep_tags))
        if thread.error is not None:
            kept[thread.id] = "it cannot be read"
        elif thread.id in held:
            kept[thread.id] = "somebody writes it"
        elif tags:
            kept[thread.id] = f"it is tagged {tags[0]}"
        elif thread.pinned:
            kept[thread.id] = "it is pinned"
    return kept


def _families(threads: Sequence[ThreadSummary]) -> Mapping[str, tuple[str, ...]]:
    """Whom each thread spawned, at any depth."""
    children: dict[str, list[str]] = {}
    for thread in threads:
        if thread.parent_id is not None:
            children.setdefault(thread.parent_id.lower(), []).append(thread.id)
    out: dict[str, tuple[str, ...]] = {}
    for thread_id in children:
        found = {thread_id: None}
        for above in (ordered := [thread_id]):
            for child in children.get(above, ()):
                if child not in found:
                    found[child] = None
                    ordered.append(child)
        out[thread_id] = tuple(ordered[1:])
    return out


def _fitting(
    newest: Sequence[ThreadSummary], rule: RetentionRule, now: datetime, packed: Collection[str]
) -> list[ThreadSummary]:
    """The threads a rule does something to, oldest first."""
    # What is kept counts into the size, too: that is what lies on the disk.
    wanted = [
        thread
        for thread in newest
        if (not rule.sources or thread.source in rule.sources)
        and (not rule.tags or set(thread.tags) & set(rule.tags))
        and (thread.archived or not rule.archived_only)
    ]
    if rule.larger_than is not None:
        size, within = 0, 0
        for thread in wanted:
            size += thread.size
            if size > rule.larger_than:
                break
            within += 1
        wanted = wanted[within:]
    if rule.older_than is not None:
        before = now - timedelta(seconds=rule.older_than)
        wanted = [thread for thread in wanted if _moment(thread.updated_at) < before]
    if rule.action == "archive":
        wanted = [thread for thread in wanted if not thread.archived]
    if rule.action == "compress":
        wanted = [thread for thread in wanted if thread.id not in packed]
    return wanted[::-1]


def _moment(stamp: str) -> datetime:
    moment = datetime.fromisoformat(stamp)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
