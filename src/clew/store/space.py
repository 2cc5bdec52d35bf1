"""Where the bytes of a home are, by cause, by thread and by place, and what could be saved by what."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from clew.clock import Clock
from clew.errors import ThreadNotFound
from clew.history.weights import Weights
from clew.rollout import Home, RolloutFile, ThreadFiles, open_source, pack_bytes
from clew.store.cold_marker import forgotten_temporaries
from clew.store.cold_run import DAY, ColdRules
from clew.store.facts import Known, facts_of
from clew.store.places import Lying, walk
from clew.store.queries import ShowProgress, Stop

__all__ = ["CauseSpace", "FileSpace", "PlaceSpace", "Saving", "Space", "ThreadSpace", "space_of", "with_titles"]

_BIGGEST = 10
_SAMPLES = 8
_SAMPLE = 1 << 18
_WORTH = 4096
"""Bytes below which a saving is not worth a line."""


class CauseSpace(msgspec.Struct, frozen=True, kw_only=True):
    """One cause. `text`: bytes of lines, unpacked; `size`: the part of the files that they take, which for compressed
    files is reckoned in proportion."""

    cause: str
    text: int
    size: int


class PlaceSpace(msgspec.Struct, frozen=True, kw_only=True):
    """Files of one kind. `size` is how long they are, `disk` what they take on the disk (whole blocks), in bytes."""

    kind: str
    files: int = 0
    size: int = 0
    disk: int = 0


class FileSpace(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a thread. `text` counts the bytes of its lines, unpacked. `role`: `current`, `segment` (an older one,
    from before a revert) or `double` (a copy in another place, which nothing reads)."""

    path: str
    role: str
    compressed: bool
    size: int
    disk: int
    text: int


class ThreadSpace(msgspec.Struct, frozen=True, kw_only=True):
    """One thread with its files, oldest first."""

    id: str
    archived: bool
    size: int
    disk: int
    text: int
    files: tuple[FileSpace, ...]
    title: str | None = None
    parent_id: str | None = None


class Saving(msgspec.Struct, frozen=True, kw_only=True):
    """What could be saved: `size` bytes by `command`. `estimated`: not counted but reckoned."""

    what: str
    size: int
    command: str
    estimated: bool = False


class Space(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `size`, `disk` and `text` are those of the threads; so are `causes` (most first), which add up to
    `text`. `kinds` parts the threads' files into active and archived, plain and compressed; `sub_agents` is the part
    that spawned threads have in them. `places` is what else lies in the two homes; empty when threads were named.
    `threads` has those that were named, or the biggest. `ratio` is how many times smaller compressing makes cold
    threads, measured on samples of them; None where there are none."""

    count: int
    size: int
    disk: int
    text: int
    causes: tuple[CauseSpace, ...]
    kinds: tuple[PlaceSpace, ...]
    sub_agents: PlaceSpace
    threads: tuple[ThreadSpace, ...]
    places: tuple[PlaceSpace, ...] = ()
    savings: tuple[Saving, ...] = ()
    ratio: float | None = None
    notices: tuple[str, ...] = ()


class _Measured(NamedTuple):
    """What is needed of a file: of a large home all digests together would be too much."""

    file: RolloutFile
    weights: Weights
    disk: int
    role: str
    parent_id: str | None
    spawned: bool

    @property
    def text(self) -> int:
        return self.weights.total


def space_of(
    home: Home,
    clew_home: Path,
    thread_ids: Collection[str] = (),
    *,
    clock: Clock,
    known: Known | None = None,
    stop: Stop | None = None,
    progress: ShowProgress | None = None,
) -> Space:
    """Of the whole home, or of some threads. Reads the files whose digests nobody keeps. Raises `ThreadNotFound` for an
    id that has no file. With `stop`, what is answered after it told so is of no use."""
    threads = [_found(home, thread_id) for thread_id in thread_ids] or list(home.threads())
    roles = {file.path: _role(thread, file) for thread in threads for file in (*thread.segments, *thread.doubles)}
    files = [file for thread in threads for file in (*thread.segments, *thread.doubles)]
    lying = list(walk(home, clew_home, roles.keys())) if not thread_ids else []
    disk = {one.path: one.disk for one in lying if one.kind == "threads"}
    measured: dict[str, list[_Measured]] = {}
    notices: list[str] = []
    for facts in facts_of(home, files, known=known, stop=stop, progress=progress):
        file, meta = facts.file, facts.digest.meta
        taken = disk.get(file.path)
        one = _Measured(
            file,
            facts.digest.weights,
            _taken(home, file) if taken is None else taken,
            roles[file.path],
            meta.parent_id if meta is not None else None,
            meta is not None and (meta.parent_id is not None or (meta.source or "").startswith("subagent")),
        )
        measured.setdefault(file.thread_id, []).append(one)
        if facts.problem is not None:
            notices.append(f"{file.plain_path.name}: {facts.problem}")
    every = [one for group in measured.values() for one in group]
    rows = [_thread(thread, measured[thread.thread_id]) for thread in threads if thread.thread_id in measured]
    rows.sort(key=lambda row: (-row.size, row.id))
    cold = _cold(threads, clock)
    ratio = _ratio(home, cold)
    return Space(
        count=len(rows),
        size=sum(row.size for row in rows),
        disk=sum(row.disk for row in rows),
        text=sum(row.text for row in rows),
        causes=_causes(every),
        kinds=_kinds(every),
        sub_agents=_place("sub_agents", (one for one in every if one.spawned)),
        threads=tuple(rows if thread_ids else rows[:_BIGGEST]),
        places=_places(lying),
        savings=tuple(_savings(home, clew_home, lying, every, cold, ratio, clock, thread_ids)),
        ratio=ratio,
        notices=tuple(notices),
    )


def with_titles(space: Space, title: Callable[[str], str | None]) -> Space:
    """The same with the titles of its threads, which are asked for by id."""
    threads = tuple(msgspec.structs.replace(thread, title=title(thread.id)) for thread in space.threads)
    return msgspec.structs.replace(space, threads=threads)


# -- threads


def _found(home: Home, thread_id: str) -> ThreadFiles:
    files = home.find(thread_id)
    if files is None:
        raise ThreadNotFound(thread_id)
    return files


def _role(thread: ThreadFiles, file: RolloutFile) -> str:
    if file is thread.current:
        return "current"
    return "segment" if file in thread.segments else "double"


def _taken(home: Home, file: RolloutFile) -> int:
    try:
        return home.fs.stat(file.path).disk
    except OSError:
        return 0


def _thread(thread: ThreadFiles, files: Sequence[_Measured]) -> ThreadSpace:
    shown = tuple(
        FileSpace(
            path=str(one.file.path),
            role=one.role,
            compressed=one.file.compressed,
            size=one.file.size,
            disk=one.disk,
            text=one.text,
        )
        for one in files
    )
    parents = [one.parent_id for one in files if one.parent_id]
    return ThreadSpace(
        id=thread.thread_id,
        archived=thread.archived,
        size=sum(file.size for file in shown),
        disk=sum(file.disk for file in shown),
        text=sum(file.text for file in shown),
        files=shown,
        parent_id=parents[0] if parents else None,
    )


def _place(kind: str, files: Iterable[_Measured]) -> PlaceSpace:
    count = size = disk = 0
    for one in files:
        count, size, disk = count + 1, size + one.file.size, disk + one.disk
    return PlaceSpace(kind=kind, files=count, size=size, disk=disk)


def _kinds(files: Sequence[_Measured]) -> tuple[PlaceSpace, ...]:
    kinds = [
        _place(
            f"{'archived' if archived else 'active'} {'compressed' if compressed else 'plain'}",
            (one for one in files if one.file.archived == archived and one.file.compressed == compressed),
        )
        for archived in (False, True)
        for compressed in (False, True)
    ]
    return tuple(kind for kind in kinds if kind.files)


def _causes(files: Sequence[_Measured]) -> tuple[CauseSpace, ...]:
    text: dict[str, int] = {}
    size: dict[str, float] = {}
    for one in files:
        share = one.file.size / one.text if one.text else 0.0
        for cause, found in one.weights.items():
            text[cause] = text.get(cause, 0) + found
            size[cause] = size.get(cause, 0.0) + found * share
    found = [CauseSpace(cause=cause, text=text[cause], size=round(size[cause])) for cause in text if text[cause]]
    return tuple(sorted(found, key=lambda one: (-one.text, one.cause)))


def _places(lying: Iterable[Lying]) -> tuple[PlaceSpace, ...]:
    sums: dict[str, list[int]] = {}
    for one in lying:
        if one.kind != "threads":
            found = sums.setdefault(one.kind, [0, 0, 0])
            found[0] += 1
            found[1] += one.size
            found[2] += one.disk
    places = [PlaceSpace(kind=kind, files=n, size=size, disk=disk) for kind, (n, size, disk) in sums.items()]
    return tuple(sorted(places, key=lambda place: (-place.disk, place.kind)))


# -- what could be saved


def _cold(threads: Iterable[ThreadFiles], clock: Clock) -> list[RolloutFile]:
    """What compressing all cold threads would compress."""
    latest = (clock.now() - ColdRules().older_than) * 1e9
    return [
        file
        for thread in threads
        if max(segment.mtime_ns for segment in thread.segments) <= latest
        for file in thread.segments
        if not file.compressed and file.size
    ]


def _ratio(home: Home, files: Sequence[RolloutFile]) -> float | None:
    """Text per packed byte, of the beginnings of some files spread over all sizes."""
    ordered = sorted(files, key=lambda file: (file.size, file.path))
    step = max(1, len(ordered) // _SAMPLES)
    text = packed = 0
    for file in ordered[step // 2 :: step][:_SAMPLES]:
        try:
            source = open_source(home.fs, file)
            try:
                # The middle of a file is more like the rest of it than its beginning.
                data = source.read_at(max(0, (file.size - _SAMPLE) // 2), _SAMPLE)
            finally:
                source.close()
        except OSError:
            continue
        if data:
            text, packed = text + len(data), packed + len(pack_bytes(data))
    return text / packed if packed else None


def _savings(
    home: Home,
    clew_home: Path,
    lying: Sequence[Lying],
    files: Sequence[_Measured],
    cold: Sequence[RolloutFile],
    ratio: float | None,
    clock: Clock,
    thread_ids: Collection[str],
) -> list[Saving]:
    found: list[Saving] = []

    def add(what: str, size: float, command: str, *, estimated: bool = False) -> None:
        if size >= _WORTH:
            found.append(Saving(what=what, size=round(size), command=command, estimated=estimated))

    if ratio is not None and ratio > 1:
        whole = sum(file.size for file in cold)
        names = " ".join(sorted({file.thread_id for file in cold})) if thread_ids else "--all"
        add(
            f"compress threads that did not change for {ColdRules().older_than / DAY:.0f} days",
            whole - whole / ratio,
            f"clew compress {names}",
            estimated=True,
        )
    doubles = [one for one in files if one.role == "double"]
    add("copies of threads that nothing reads", sum(one.file.size for one in doubles), "clew check")
    by_kind = {place.kind: place.size for place in _places(lying)}
    add("empty the trash", by_kind.get("trash", 0), "clew trash empty")
    add("backups of repairs", by_kind.get("backups", 0), f"rm -r {shlex.quote(str(clew_home / 'backups'))}")
    add("results of searches", by_kind.get("cache", 0), f"rm -r {shlex.quote(str(clew_home / 'cache'))}")
    if by_kind.get("leftovers"):
        forgotten = set(forgotten_temporaries(home, clock.now()))
        size = sum(one.size for one in lying if one.path in forgotten)
        add("half-written files of programs that were killed", size, "clew compress --all")
    return sorted(found, key=lambda saving: -saving.size)
