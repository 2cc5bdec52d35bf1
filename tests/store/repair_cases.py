"""Damaged homes, one for each surgery; on a real disk or a simulated one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from clew.ids import uuid7_at
from clew.rollout import Home, NameIndex
from clew.testing import Call, ThreadBuilder

OTHER = uuid7_at(1_782_000_000_000, bytes(10))
DEAD = 2**22 + 17
"""A process that cannot be."""


class StoppedClock:
    """So that the same calls give the same bytes."""

    def now(self) -> float:
        return 1_783_000_000.0

    def monotonic(self) -> float:
        return 0.0


class Case(NamedTuple):
    """The surgery that helps, and the thread it is needed for (None: the home)."""

    repair: str
    thread_id: str | None


def thread(era: Any = "0.169", **options: Any) -> ThreadBuilder:
    return ThreadBuilder(era, **options).turn("First?", "One.").turn("Second?", "Two.", calls=[Call("ls", "a.txt\n")])


def torn(home: Home, clew_home: Path) -> Case:
    builder = thread().torn(10)
    builder.write(home)
    return Case("drop-torn-tail", builder.id)


def reordered(data: bytes) -> bytes:
    """A double, a missing and a far ordinal in a paginated file."""
    lines = data.splitlines(keepends=True)
    lines[2] = _renumbered(lines[2], json.loads(lines[1])["ordinal"])
    lines[3] = _renumbered(lines[3], None)
    lines[-1] = _renumbered(lines[-1], 5000)
    return b"".join(lines)


def _renumbered(line: bytes, ordinal: int | None) -> bytes:
    fields = json.loads(line)
    fields.pop("ordinal")
    if ordinal is not None:
        fields["ordinal"] = ordinal  # behind all others
    return msgspec.json.encode(fields) + b"\n"


def numbered_badly(home: Home) -> tuple[ThreadBuilder, Path]:
    builder = thread().edit(reordered)
    return builder, builder.write(home)


def _renumber(home: Home, clew_home: Path) -> Case:
    return Case("renumber", numbered_badly(home)[0].id)


def _wrong_mode(home: Home, clew_home: Path) -> Case:
    builder = thread()
    lines = builder.data.splitlines()
    builder.edit(lambda data: b"".join(_renumbered(line, None) for line in lines)).write(home)
    return Case("renumber", builder.id)


def damaged_base(home: Home, **changes: Any) -> tuple[ThreadBuilder, Path, dict[str, Any]]:
    """A fork whose metadata name a wrong base; its file, and what would be right."""
    parent = thread()
    parent.write(home)
    child = parent.fork(before=1).turn("Other?", "Else.")
    line = json.loads(child.data.splitlines()[0])
    right = line["payload"]["history_base"]
    line["payload"]["history_base"] = right | changes
    first = msgspec.json.encode(line) + b"\n"
    child.edit(lambda data: first + data.partition(b"\n")[2])
    return child, child.write(home), right


def _wrong_base(home: Home, clew_home: Path) -> Case:
    return Case("reattach-base", damaged_base(home, end_byte_offset=100)[0].id)


def _missing_base(home: Home, clew_home: Path) -> Case:
    parent = thread()
    path = parent.write(home)
    child = parent.fork(before=1).turn("Other?", "Else.")
    child.write(home)
    home.fs.make_folder(home.path / "old")
    home.fs.rename(path, home.path / "old" / path.name)
    home.fs.sync_folder(home.path / "old")
    home.fs.sync_folder(path.parent)
    return Case("reattach-base", child.id)


def foreign_tail(home: Home, era: Any) -> tuple[str, bytes, Path]:
    """A file with another thread behind its own lines: the id of its own, the bytes of the other, its path."""
    mine = thread(era)
    foreign = ThreadBuilder(era, id=OTHER, seed=7).turn("Elsewhere?", "Yes.").data
    tail = foreign
    if mine.paginated:
        due = len(mine.data.splitlines())
        lines = [json.loads(line) for line in foreign.splitlines()]
        tail = b"".join(msgspec.json.encode(line | {"ordinal": line["ordinal"] + due}) + b"\n" for line in lines)
    return mine.id, foreign, mine.edit(lambda data: data + tail).write(home)


def _foreign(home: Home, clew_home: Path) -> Case:
    return Case("split-foreign-tail", foreign_tail(home, "0.169")[0])


def _names(home: Home, clew_home: Path) -> Case:
    builder = thread()
    builder.write(home)
    names = NameIndex(home)
    names.rename(OTHER, "gone", StoppedClock())
    names.rename(builder.id, "here", StoppedClock())
    _put(home, home.session_index, b'{"id":"torn\n')
    return Case("rebuild-names", None)


def _locks(home: Home, clew_home: Path) -> Case:
    home.fs.make_folder(home.lock_folder)
    home.fs.make_folder(clew_home / "owners")
    _put(home, home.thread_lock(OTHER), b"")
    record = {"program": "clew exec", "pid": DEAD}
    _put(home, clew_home / "owners" / f"{OTHER}.json", msgspec.json.encode(record) + b"\n")
    return Case("drop-stale-locks", None)


def _put(home: Home, path: Path, data: bytes) -> None:
    """Append durably."""
    file = home.fs.open_append(path)
    file.write(data)
    file.sync()
    file.close()
    home.fs.sync_folder(path.parent)


CASES: dict[str, Callable[[Home, Path], Case]] = {
    "drop-torn-tail": torn,
    "renumber": _renumber,
    "renumber: wrong mode": _wrong_mode,
    "reattach-base: wrong": _wrong_base,
    "reattach-base: missing": _missing_base,
    "split-foreign-tail": _foreign,
    "rebuild-names": _names,
    "drop-stale-locks": _locks,
}
