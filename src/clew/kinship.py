"""How threads hang together: who was forked from whom or spawned by whom, and where two of them part."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from clew.history.briefs import TurnBrief, same_turns, turn_briefs
from clew.history.metadata import read_meta
from clew.history.turn_offsets import TurnOffsets
from clew.store.contracts import LogStore, ThreadSummary

__all__ = ["Branch", "Comparison", "Kind", "Side", "compare_logs", "descent", "families"]

Kind = Literal["root", "fork", "copy", "agent"]


class Branch(msgspec.Struct, frozen=True, kw_only=True):
    """A thread among its relatives. `kind`: `fork` refers to its source, `copy` holds a copy of it, `agent` was spawned
    by the thread above it. `after_turn`: the last turn it has from there (None: none, or unknown). `source`: the thread
    it came from, also where that is not in the home any more. Children are sorted by age, oldest first."""

    thread: ThreadSummary
    kind: Kind
    source: str | None = None
    after_turn: str | None = None
    children: tuple[Branch, ...] = ()


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One of two threads: what it did after they parted."""

    thread: ThreadSummary
    turns: tuple[TurnBrief, ...]


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two threads. `common` counts the turns they share, `last_common` is the id of the last of these in the first
    thread. `ancestor`: the nearest thread that both came from (one of them, maybe). `related`: there is one, or they
    share turns. `inside`: they part within a turn, which is the first of both sides."""

    left: Side
    right: Side
    related: bool
    common: int = 0
    last_common: str | None = None
    inside: bool = False
    ancestor: str | None = None

    @property
    def same(self) -> bool:
        """Whether they tell the same turns."""
        return not self.left.turns and not self.right.turns


def families(
    threads: Iterable[ThreadSummary],
    after_turn: Callable[[ThreadSummary], str | None],
    *,
    of: str | None = None,
    limit: int | None = None,
) -> list[Branch]:
    """All threads as trees, those with the newest changes first (`limit` of them), or the one tree that the thread `of`
    is in. `after_turn` is asked only for threads that are given back."""
    known = {thread.id: thread for thread in threads}
    above = {thread.id: source for thread in known.values() if (source := _source(thread)) in known and source}
    tops = _tops(known, above)
    below: dict[str, list[str]] = {}
    for thread_id, up in above.items():
        below.setdefault(up, []).append(thread_id)
    if of is not None:
        chosen = [tops[of]]
    else:
        newest: dict[str, str] = {}
        for thread_id, top in tops.items():
            newest[top] = max(newest.get(top, ""), known[thread_id].updated_at)
        chosen = sorted(newest, key=lambda top: (newest[top], top), reverse=True)[:limit]
    return [_grown(top, known, below, after_turn) for top in chosen]


def _tops(known: Mapping[str, ThreadSummary], above: dict[str, str]) -> dict[str, str]:
    """The root that each thread comes from. A circle is opened where it is entered."""
    tops: dict[str, str] = {}
    for thread_id in known:
        path: dict[str, None] = {}
        here = thread_id
        while here not in tops and here in above and here not in path:
            path[here] = None
            here = above[here]
        if here in path:
            del above[here]
        top = tops.get(here, here)
        tops |= dict.fromkeys(path, top) | {here: top}
    return tops


def _grown(
    top: str,
    known: Mapping[str, ThreadSummary],
    below: Mapping[str, list[str]],
    after_turn: Callable[[ThreadSummary], str | None],
) -> Branch:
    # From the leaves, without recursion: a family may be deep.
    order = [top]
    for one in order:
        order += below.get(one, ())
    made: dict[str, Branch] = {}
    for one in reversed(order):
        thread = known[one]
        children = sorted(below.get(one, ()), key=lambda child: (known[child].created_at, child))
        kind = _kind(thread)
        made[one] = Branch(
            thread=thread,
            kind=kind,
            source=_source(thread),
            after_turn=after_turn(thread) if kind in ("fork", "copy") else None,
            children=tuple(made.pop(child) for child in children),
        )
    return made[top]


def _source(thread: ThreadSummary) -> str | None:
    return thread.parent_id or thread.forked_from


def _kind(thread: ThreadSummary) -> Kind:
    if thread.parent_id is not None:
        return "agent"
    if thread.forked_from is None:
        return "root"
    return "fork" if thread.history_mode == "paginated" else "copy"


def descent(thread: ThreadSummary, get: Callable[[str], ThreadSummary | None]) -> list[str]:
    """The thread and all it came from, nearest first, as far as they are there."""
    line = [thread.id]
    here: ThreadSummary | None = thread
    while here is not None and (up := _source(here)) is not None and up not in line:
        line.append(up)
        here = get(up)
    return line


class _Reading:
    """The turns of one thread, with their items only where they are asked for."""

    def __init__(self, logs: LogStore, thread_id: str) -> None:
        meta = read_meta(logs.head(thread_id))
        self._mode, self._start = meta.history_mode, meta.subagent_start
        self._log = logs.log(thread_id)
        self._offsets = TurnOffsets(self._mode, subagent_start=self._start)
        self._offsets.extend(self._log)
        self.ids = self._offsets.ids()

    def briefs(self, first: int) -> list[TurnBrief]:
        """The turns from `first` (counted from 0) on."""
        if first >= len(self.ids):
            return []
        lines = (line for _, line in self._log.since(self._offsets.mark(first)))
        return turn_briefs(lines, self._mode, first=first + 1, subagent_start=self._start)


def compare_logs(
    logs: LogStore, left: ThreadSummary, right: ThreadSummary, lines: Mapping[str, Sequence[str]]
) -> Comparison:
    """Where two threads part. `lines` are both lines of descent, by thread id."""
    one, other = _Reading(logs, left.id), _Reading(logs, right.id)
    told = all(map(_lasting, (*one.ids, *other.ids)))
    common = 0
    if told:
        while common < min(len(one.ids), len(other.ids)) and one.ids[common] == other.ids[common]:
            common += 1
        # They may part within a turn: the last one they share is looked at, too.
        first = max(0, common - 1)
        mine, theirs = one.briefs(first), other.briefs(first)
        inside = common > 0 and not same_turns(mine[0], theirs[0])
        if common > 0 and not inside:
            mine, theirs = mine[1:], theirs[1:]
        common -= inside
    else:
        # Old logs name turns by their lines, which are others in a copy: what was said tells.
        mine, theirs, inside = one.briefs(0), other.briefs(0), False
        while common < min(len(mine), len(theirs)) and _alike(mine[common], theirs[common]):
            common += 1
        mine, theirs = mine[common:], theirs[common:]
    shared = set(lines[right.id])
    ancestor = next((thread_id for thread_id in lines[left.id] if thread_id in shared), None)
    return Comparison(
        left=Side(thread=left, turns=tuple(mine)),
        right=Side(thread=right, turns=tuple(theirs)),
        related=ancestor is not None or (common > 0 and told) or inside,
        common=common,
        last_common=one.ids[common - 1] if common else None,
        inside=inside,
        ancestor=ancestor,
    )


def _lasting(turn_id: str) -> bool:
    return not turn_id.startswith("rollout-")


def _alike(one: TurnBrief, other: TurnBrief) -> bool:
    if _lasting(one.id) and _lasting(other.id) and one.id != other.id:
        return False
    return same_turns(one, other) and one.commands == other.commands
