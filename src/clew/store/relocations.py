"""Where folders are now that threads were recorded in: moves that people told, in a journal of their own.

    {"at":"2026-07-01T12:00:00.123Z","by":"clew relocate","do":"move","old":"/home/ada/lexer","new":"/home/ada/parser"}

Logs keep what they say. A move counts while the new folder is there and the old one is not: whoever makes a folder of
the old name again means that one. The journal is the ground state; rows of other kinds are passed over and stay.
"""

from __future__ import annotations

import posixpath
import threading
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from clew.clock import Clock, utc_stamp
from clew.errors import BadRequest
from clew.rollout import FailPoints, FileSystem
from clew.store.journal import Journal, Place

__all__ = ["Move", "MoveRow", "Relocations"]


class MoveRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One change: `move` (`old` is at `new` now; `always`: also while there is a folder `old`), or `undo` (the last
    move of `old` does not count)."""

    at: str
    by: str
    do: str
    old: str
    new: str | None = None
    always: bool = False


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """A move that was told and not undone. `counts`: it does at this moment."""

    old: str
    new: str
    at: str
    always: bool = False
    counts: bool = True


class Relocations:
    """The moves of one clew home. Reading costs a look at the journal's size and time while nothing changed.

    `is_folder` tells what is there now; `closed` are folders that no thread gets as its own.
    """

    def __init__(
        self,
        fs: FileSystem,
        clew_home: Path,
        *,
        clock: Clock,
        by: str = "clew",
        fail: FailPoints | None = None,
        is_folder: Callable[[str], bool] | None = None,
        closed: Sequence[str] = ("/",),
    ) -> None:
        self._journal = Journal(fs, clew_home / "relocations.jsonl", MoveRow, fail=fail)
        self._clock = clock
        self._by = by
        self._is_folder = is_folder or _is_folder
        self._closed = {_tidy(folder) for folder in closed}
        self._lock = threading.Lock()
        self._version: object = ()
        self._place: Place | None = None
        self._rows: tuple[MoveRow, ...] = ()

    # -- reading

    def moves(self) -> tuple[Move, ...]:
        """What was told, in that order. Raises `OSError` when the journal is there and cannot be read."""
        return tuple(
            Move(old=row.old, new=row.new or "", at=row.at, always=row.always, counts=self._counts(row))
            for row in self._told()
        )

    def now(self, folder: str) -> str:
        """Where a recorded folder is now: itself, unless it lay in one that was moved. Moves count one after the
        other."""
        rows = self._told()
        if not rows:
            return folder
        here = _tidy(folder)
        for row in rows:
            if row.new is not None and (rest := _below(here, row.old)) is not None and self._counts(row):
                moved = _join(row.new, rest)
                # What is not where it should be by this move is left where it was.
                here = moved if rest == "" or self._is_folder(moved) else here
        return folder if here == _tidy(folder) else here

    def known_as(self, folder: str) -> tuple[str, ...]:
        """The other folders in which threads may be recorded that belong into this one (or below it) now."""
        names = [here := _tidy(folder)]
        for row in reversed(self._told()):
            if row.new is None or not self._counts(row):
                continue
            for name in tuple(names):
                if _below(row.new, name) is not None:
                    names.append(row.old)
                elif (rest := _below(name, row.new)) is not None:
                    names.append(_join(row.old, rest))
        return tuple(dict.fromkeys(name for name in names if name != here))

    def _counts(self, row: MoveRow) -> bool:
        return row.new is not None and (row.always or not self._is_folder(row.old)) and self._is_folder(row.new)

    def _told(self) -> tuple[MoveRow, ...]:
        with self._lock:
            version = self._journal.version
            if version != self._version:
                replay = self._journal.read(self._place)
                self._rows = _kept(() if replay.afresh else self._rows, replay.rows)
                self._place, self._version = replay.place, version
            return self._rows

    # -- telling

    def move(self, old: str, new: str, *, always: bool = False) -> Move:
        """`old` is at `new` now; both absolute. Raises `BadRequest` for what cannot be meant, `HomeUnwritable`,
        `DiskFull`, `SyncFailed`."""
        old, new = _need_absolute(old, "old"), _need_absolute(new, "new")
        if old == new:
            raise BadRequest("new", "that is the same folder")
        if not self._is_folder(new):
            raise BadRequest("new", f"there is no folder {new}")
        if new in self._closed:
            raise BadRequest("new", f"{new} is too wide: a thread may write in its folder")
        if not always and _below(old, new) is not None:
            raise BadRequest("new", f"{new} is wider than {old}, and a thread may write in its folder")
        if not always and self._is_folder(old):
            raise BadRequest("old", f"{old} is still there, and its threads go on in it")
        row = MoveRow(at=utc_stamp(self._clock.now()), by=self._by, do="move", old=old, new=new, always=always)
        with self._journal.writing() as pen:
            pen.append(row)
        return Move(old=old, new=new, at=row.at, always=always, counts=self._counts(row))

    def undo(self, old: str) -> Move:
        """The last move of `old` does not count any more. Raises `BadRequest` where there is none."""
        old = _need_absolute(old, "old")
        with self._journal.writing() as pen:
            last = next((move for move in reversed(self.moves()) if move.old == old), None)
            if last is None:
                raise BadRequest("old", f"nobody told that {old} was moved")
            pen.append(MoveRow(at=utc_stamp(self._clock.now()), by=self._by, do="undo", old=old))
        return last


def _kept(before: Sequence[MoveRow], rows: Sequence[MoveRow]) -> tuple[MoveRow, ...]:
    kept = list(before)
    for row in rows:
        if row.do == "move" and row.new is not None:
            kept.append(row)
        elif row.do == "undo":
            last = next((place for place in range(len(kept) - 1, -1, -1) if kept[place].old == row.old), None)
            if last is not None:
                del kept[last]
    return tuple(kept)


def _need_absolute(folder: str, field: str) -> str:
    if not folder.startswith("/") or "\0" in folder:
        raise BadRequest(field, f"{folder!r} is no absolute path")
    return _tidy(folder)


def _tidy(folder: str) -> str:
    """Without `.`, `..` and doubled slashes; nothing is looked up."""
    return posixpath.normpath(folder).replace("//", "/")


def _below(folder: str, above: str) -> str | None:
    """The way from `above` down to `folder` (empty: it is the same), None if it does not lie there."""
    try:
        rest = PurePosixPath(folder).relative_to(above)
    except ValueError:
        return None
    return "" if str(rest) == "." else str(rest)


def _join(folder: str, rest: str) -> str:
    return str(PurePosixPath(folder, rest)) if rest else folder


def _is_folder(folder: str) -> bool:
    try:
        return Path(folder).is_dir()
    except (OSError, ValueError):
        return False
