"""How many turns a log has, counted line by line with a memory that does not grow: the rules of `turn_drafts`, without
what is in the turns."""

from __future__ import annotations

import zlib

import msgspec

__all__ = ["TurnCount"]

KNOWN = 32
"""How many finished turns are known by their ids. Something said late about an older one counts as said about a turn
that is not there."""


class TurnCount(msgspec.Struct, kw_only=True, array_like=True):
    """The turns of one file so far, by the rules of both dialects.

    Legacy: `closed` turns and the open one; `told`: events tell them, before the first one the items do (the oldest
    files). Paginated: `marked` ones. Ids are kept as checksums.
    """

    closed: int = 0
    known: list[int] = []
    marked: int = 0
    named: list[int] = []
    open: bool = False
    open_id: str | None = None
    explicit: bool = False
    holds: bool = False
    compacted: bool = False
    told: bool = False

    def count(self, *, paginated: bool) -> int:
        return self.marked if paginated else self.closed + (self.open and self._counts)

    @property
    def settled(self) -> bool:
        """Whether the open turn is one, whatever else it comes to hold."""
        return self.open and (self.explicit or self.holds)

    @property
    def _counts(self) -> bool:
        return self.explicit or self.holds or self.compacted

    def started(self, turn_id: str | None) -> None:
        self.close()
        self.open, self.open_id, self.explicit = True, turn_id, True

    def completed(self, turn_id: str | None) -> None:
        """The end of a turn that is known and not the open one leaves the open one open."""
        if self.open and (self.open_id == turn_id or turn_id is None or _sum(turn_id) not in self.known):
            self.close()

    def user_message(self) -> None:
        if self.open and not self.explicit and not (self.compacted and not self.holds):
            self.close()
        self.open = self.holds = True

    def item(self, turn_id: str | None = None) -> None:
        """Something in a turn: the named one, which may not be there, or the open one, which is opened for it."""
        if not turn_id or (self.open and turn_id == self.open_id):
            self.open = self.holds = True

    def touched(self, turn_id: str | None) -> None:
        """Something that shows nothing, and yet opens a turn."""
        if not turn_id:
            self.open = True

    def compaction(self) -> None:
        self.by_events()
        self.open = self.compacted = True

    def rolled_back(self, turns: int) -> None:
        self.close()
        gone = max(0, min(turns, self.closed))
        self.closed -= gone
        if gone:
            del self.known[-gone:]

    def by_events(self) -> None:
        """Until here turns were inferred from the items; from now on events tell them."""
        if not self.told:
            self.told, self.closed, self.known = True, 0, []
            self._forget()

    def close(self) -> None:
        if self.open and self._counts:
            self.closed += 1
            _remember(self.known, -1 if self.open_id is None else _sum(self.open_id))
        self._forget()

    def marker(self, turn_id: str) -> None:
        """Paginated: a start or an end, which names its turn; the first one of a turn makes it."""
        name = _sum(turn_id)
        if name not in self.named:
            self.marked += 1
            _remember(self.named, name)

    def _forget(self) -> None:
        self.open = self.explicit = self.holds = self.compacted = False
        self.open_id = None


def _remember(names: list[int], name: int) -> None:
    names.append(name)
    if len(names) > KNOWN:
        del names[0]


def _sum(turn_id: str) -> int:
    return zlib.crc32(turn_id.encode("utf-8", "surrogatepass"))
