"""A whole thread: its current file with everything it inherits from other files, forward or newest first."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import TypeVar

import msgspec

from clew.errors import LogDamaged, UnsupportedHistory
from clew.rollout.envelope import Record, Skipped, peek_ordinal
from clew.rollout.layout import Home, RolloutFile, ThreadFiles
from clew.rollout.names import canonical_id
from clew.rollout.scan import Passes, scan_back, scan_forward
from clew.rollout.source import ByteSource, open_source

__all__ = [
    "HISTORY_MODES",
    "Base",
    "Head",
    "Lineage",
    "Link",
    "check_readable",
    "head_of",
    "is_inherited",
    "lineage",
    "link_lines",
    "parse_head",
    "read_head",
    "read_thread",
    "read_thread_back",
]

HISTORY_MODES = frozenset({"legacy", "paginated"})

HEAD_LINES = 210
HEAD_BYTES = 4 << 20
HEAD_BLOCK = 1 << 14
LOOKED_UP_ALONE = 32


class Base(msgspec.Struct, frozen=True):
    """What a file inherits: the lines of another rollout whose ordinal is smaller and that end before the offset."""

    thread_id: str
    end_ordinal_exclusive: int
    end_byte_offset: int


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """The part of `session_meta` that decides how a file is read. `history_mode` may be an unknown one."""

    id: str | None = None
    history_mode: str = "legacy"
    history_base: Base | None = None


class _Wire(msgspec.Struct):
    id: msgspec.Raw = msgspec.Raw(b"null")
    history_mode: msgspec.Raw = msgspec.Raw(b"null")
    history_base: msgspec.Raw = msgspec.Raw(b"null")


@dataclass(frozen=True, slots=True)
class Link:
    """One file of a chain and how much of it counts: bytes before `end` (None: all) with ordinals below `ordinal`."""

    file: RolloutFile
    end: int | None = None
    ordinal: int | None = None


@dataclass(frozen=True, slots=True)
class Lineage:
    """`links` from the current file to its oldest base. `damage` says why the chain ends early, None if it does not."""

    links: tuple[Link, ...]
    damage: LogDamaged | None = None


def parse_head(record: Record) -> Head:
    """Never raises: parts that are not what they should be count as absent."""
    wire = _decode(record.payload, _Wire, _Wire())
    return Head(
        id=_decode(wire.id, str, None),
        history_mode=_mode(wire.history_mode),
        history_base=_decode(wire.history_base, Base, None),
    )


def read_head(home: Home, file: RolloutFile) -> Record | None:
    """The canonical `session_meta` of a file: the first that carries the file's own thread id, else the first at all.

    Reads a few KB where the first line is it, as it should be; otherwise up to 210 lines or 4 MB. None when there is
    none. Raises `OSError` when the file cannot be opened.
    """
    with contextlib.closing(open_source(home.fs, file)) as source:
        return head_of(source, file)


def lineage(home: Home, file: RolloutFile) -> Lineage:
    """The chain of bases behind a file. Raises `OSError` only for the file itself."""
    links: list[Link] = []
    damage = None
    for link in _links(home, file):
        if isinstance(link, LogDamaged):
            damage = link
        else:
            links.append(link)
    return Lineage(tuple(links), damage)


def _links(home: Home, file: RolloutFile) -> Generator[Link | LogDamaged]:
    """The file, then its bases, each when it is asked for; last, if so, why the chain ends early."""
    link = Link(file)
    yield link
    seen = {file.name.rollout_id}
    segments = _Segments(home)
    head = read_head(home, file)
    while True:
        base = parse_head(head).history_base if head is not None else None
        if base is None:
            return
        at = link.file
        found = segments.find(base.thread_id)
        why = ""
        if found is None:
            why = f"the base of its history is missing: rollout {base.thread_id}"
        elif found.name.rollout_id in seen:
            why = f"its history leads back to itself through rollout {base.thread_id}"
        else:
            try:
                head = read_head(home, found)
            except OSError as error:
                why = f"the base of its history cannot be read: {found.plain_path}: {error.strerror or error}"
        if found is None or why:
            yield LogDamaged(at.plain_path, 1, why, thread_id=file.thread_id)
            return
        seen.add(found.name.rollout_id)
        link = Link(found, base.end_byte_offset, base.end_ordinal_exclusive)
        yield link


class _Segments:
    """Looks up the files of one chain. After a few the whole home is listed once, so that a long chain in a full
    folder does not list that folder for every link."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._asked = 0
        self._known: dict[str, RolloutFile | None] | None = None

    def find(self, rollout_id: str) -> RolloutFile | None:
        self._asked += 1
        if self._asked > LOOKED_UP_ALONE and self._known is None:
            self._known = {}
            for file in self._home.files():
                # Where several files claim a place, the home decides.
                claimed = file.name.rollout_id in self._known
                self._known[file.name.rollout_id] = None if claimed else file
        found = (self._known or {}).get(canonical_id(rollout_id) or "")
        return found or self._home.find_segment(rollout_id)


def read_thread(home: Home, files: ThreadFiles) -> Iterator[Record | Skipped]:
    """All lines of a thread, oldest first: what it inherits, then its own, which begin with its own `session_meta`
    (those of bases are left out: they say nothing about this thread).

    A base that is missing costs no own line: it comes as a last `Skipped` that names it. Raises, when called,
    `UnsupportedHistory`, `LogDamaged` for a file with nothing in it, `OSError` when it cannot be opened.
    """
    check_readable(home, files.current)
    chain = lineage(home, files.current)
    return _forward(home, chain)


def read_thread_back(home: Home, files: ThreadFiles, *, passes: Passes | None = None) -> Iterator[Record | Skipped]:
    """The same lines, newest first. Bases are opened when they are reached. `passes` tells lines that are not wanted,
    which are neither decoded nor checked. Raises as `read_thread`."""
    check_readable(home, files.current)
    return _backward(home, files.current, passes)


def _forward(home: Home, chain: Lineage) -> Generator[Record | Skipped]:
    for link in reversed(chain.links):
        yield from link_lines(home, link)
    if chain.damage is not None:
        yield Skipped(why=str(chain.damage))


def _backward(home: Home, file: RolloutFile, passes: Passes | None) -> Generator[Record | Skipped]:
    for link in _links(home, file):
        if isinstance(link, LogDamaged):
            yield Skipped(why=str(link))
        else:
            yield from link_lines(home, link, back=True, passes=passes)


def link_lines(
    home: Home, link: Link, *, back: bool = False, start: int = 0, passes: Passes | None = None
) -> Generator[Record | Skipped]:
    """What a link gives of its file, from `start` (the beginning of a line) on. Never raises."""
    try:
        source = open_source(home.fs, link.file)
    except OSError as error:
        yield Skipped(why=f"{link.file.plain_path} cannot be read: {error.strerror or error}")
        return
    if passes is not None and link.ordinal is not None:
        passes = _inherited(link.ordinal, passes)
    with contextlib.closing(source):
        if back:
            yield from _missing(source, link)
            scan = scan_back(source, link.end, start=start, passes=passes)
        else:
            scan = scan_forward(source, start, link.end, passes=passes)
        if link.end is None:
            yield from scan
        else:
            yield from (line for line in scan if is_inherited(link, line))
        if not back:
            yield from _missing(source, link)


def _inherited(limit: int, passes: Passes) -> Passes:
    """`passes`, asked only for lines whose ordinal is seen to be below the limit; the others are decoded and looked
    at."""

    def told(data: bytes, start: int, end: int) -> object:
        ordinal = peek_ordinal(data, start, end)
        return passes(data, start, end) if ordinal is not None and ordinal < limit else None

    return told


def is_inherited(link: Link, line: Record | Skipped) -> bool:
    """Whether a line of a base counts for those who inherit from it."""
    if isinstance(line, Skipped):
        return True
    within = line.ordinal is None or link.ordinal is None or line.ordinal < link.ordinal
    return within and line.type != "session_meta"


def _missing(source: ByteSource, link: Link) -> Iterator[Skipped]:
    """What is inherited of a file, and not in it any more."""
    if link.end is not None and (size := source.size()) < link.end:
        why = f"{link.file.plain_path} has {size} bytes, but {link.end} of them are inherited"
        yield Skipped(why=why, start=size, end=link.end)


def check_readable(home: Home, file: RolloutFile) -> None:
    """Raises what `read_thread` raises when it is called."""
    with contextlib.closing(open_source(home.fs, file)) as source:
        head = head_of(source, file)
        if head is None:
            if not any(isinstance(line, Record) for line in scan_forward(source)):
                why = source.damage or ("nothing in it can be read" if source.size() else "the file is empty")
                raise LogDamaged(file.plain_path, 0, why, thread_id=file.thread_id)
            return
    mode = parse_head(head).history_mode
    if mode not in HISTORY_MODES:
        raise UnsupportedHistory(file.plain_path, mode, thread_id=file.thread_id)


def head_of(source: ByteSource, file: RolloutFile) -> Record | None:
    """`read_head` for a file that is open."""
    first: Record | None = None
    for count, line in enumerate(scan_forward(source, block=HEAD_BLOCK), 1):
        if isinstance(line, Record) and line.type == "session_meta":
            if parse_head(line).id == file.thread_id:
                return line
            first = first or line
        if count >= HEAD_LINES or line.end >= HEAD_BYTES:
            break
    return first


def _mode(raw: msgspec.Raw) -> str:
    """A mode that is no text is one we do not know; null is an absent one."""
    if bytes(raw) == b"null":
        return "legacy"
    return _decode(raw, str, None) or bytes(raw)[:40].decode(errors="replace")


_T = TypeVar("_T")
_D = TypeVar("_D")


def _decode(raw: msgspec.Raw, kind: type[_T], default: _D) -> _T | _D:
    try:
        return msgspec.json.decode(raw, type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return default
