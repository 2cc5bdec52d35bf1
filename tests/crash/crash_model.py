"""What a thread must be after all that was done to it: a plain list of lines, and how sure each of them is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import msgspec

from clew.rollout import Record, Skipped

__all__ = ["Broken", "Entry", "Expected", "number_of"]

Sure = Literal["maybe", "written", "durable"]


class Broken(AssertionError):
    """A promise that was not kept."""


@dataclass(eq=False)
class Entry:
    """One line that was handed in. `maybe`: nobody was told that it is there; `written`: it survives the end of a
    program; `durable`: it survives everything. `submitted` and `settled` are moments; `hand` is who wrote it."""

    number: int
    sure: Sure
    submitted: int
    hand: int
    settled: int | None = None
    doubtful: bool = False
    """A sync failed while it was not durable, and somebody was told: other programs' syncs may now lie about it."""

    def is_there(self, sure: Sure, now: int, *, certain: bool = False) -> None:
        self.doubtful = self.doubtful and not certain
        if self.sure != "durable" and not self.doubtful:
            self.sure = sure
        if self.settled is None:
            self.settled = now


@dataclass(eq=False)
class Expected:
    """One thread. `exists`, `archived` and `names` hold every state that it may be in."""

    id: str
    paginated: bool
    lines: list[Entry] = field(default_factory=list[Entry])
    exists: Sure = "maybe"
    archived: set[bool] = field(default_factory=lambda: {False})
    names: set[str | None] = field(default_factory=lambda: {None})
    frozen: dict[str, bytes] = field(default_factory=dict[str, bytes])
    """By rollout id: the bytes that can never be others."""
    lost_in_order: set[int] = field(default_factory=set[int])
    in_doubt: bool = False
    """It inherits from a file whose sync failed in another program: nobody here could know what of it is on disk."""
    based_on: set[str] = field(default_factory=set[str])
    """The threads that others' files were cut from for this one."""

    def check(self, found: Sequence[Record | Skipped]) -> list[Entry]:
        """The entries that are there, in their order. Raises `Broken`."""
        numbers = [number for line in found if isinstance(line, Record) and (number := number_of(line)) is not None]
        known = {entry.number: entry for entry in self.lines}
        for number in numbers:
            if number not in known:
                raise Broken(
                    f"{self.id}: line {number} was never written here, or was lost before; {self._told(numbers)}"
                )
        if len(set(numbers)) != len(numbers):
            raise Broken(f"{self.id}: doubled; {self._told(numbers)}")
        for entry in self.lines:
            if entry.sure != "maybe" and entry.number not in numbers:
                raise Broken(f"{self.id}: {entry.sure} line {entry.number} is missing; {self._told(numbers)}")
        there = [known[number] for number in numbers]
        self._check_order(there)
        records = [line for line in found if isinstance(line, Record)]
        if records and records[0].type != "session_meta" and not self.based_on:
            raise Broken(f"{self.id}: begins with {records[0].type}")
        self._check_ordinals(found)
        return there

    def _check_order(self, there: Iterable[Entry]) -> None:
        latest = -(1 << 60)
        by_hand: dict[int, int] = {}
        for entry in there:
            if entry.settled is not None and entry.settled < latest:
                raise Broken(f"{self.id}: line {entry.number} stands behind one that came later")
            if by_hand.get(entry.hand, entry.number) > entry.number:
                raise Broken(f"{self.id}: lines of one hand are out of order at {entry.number}")
            by_hand[entry.hand] = entry.number
            latest = max(latest, entry.submitted)

    def _check_ordinals(self, found: Sequence[Record | Skipped]) -> None:
        last: int | None = None
        whole = True
        for line in found:
            if isinstance(line, Skipped):
                whole = False
                continue
            if not self.paginated:
                if line.ordinal is not None:
                    raise Broken(f"{self.id}: ordinal {line.ordinal} in a legacy thread")
                continue
            if line.ordinal is None:
                raise Broken(f"{self.id}: a line without ordinal")
            if last is not None and (line.ordinal <= last or (whole and line.ordinal != last + 1 and last >= 0)):
                gap_is_ours = line.type != "session_meta" and not self.based_on
                if line.ordinal <= last or gap_is_ours:
                    raise Broken(f"{self.id}: ordinal {line.ordinal} behind {last}")
            last, whole = line.ordinal, True

    def _told(self, numbers: Sequence[int]) -> str:
        wanted = " ".join(f"{entry.number}{entry.sure[0]}" for entry in self.lines)
        return f"expected {wanted or 'nothing'}; found {' '.join(map(str, numbers)) or 'nothing'}"


def number_of(line: Record) -> int | None:
    """The number that a line of these tests carries; a fork may close the turn it was cut in with one that has none."""
    if line.type != "response_item":
        return None
    payload: Any = msgspec.json.decode(line.payload)
    first = payload["content"][0]["text"].split()[0]
    return int(first) if first.isdecimal() else None
