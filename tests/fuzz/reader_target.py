"""What must hold for any bytes in a home: the target of the fuzzers, and what a case for it is.

A case is one to three files of one home. `check` puts them there, asks everything a reader can ask, and raises
`Broken` when an answer contradicts another one, or any other exception that a caller would not expect.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

import msgspec
import zstandard

from clew.cli.inspect import inspect_home, inspect_thread
from clew.clock import SystemClock
from clew.errors import BadRequest, ClewError, Owner
from clew.history import (
    find_cut,
    is_user_boundary,
    read_meta,
    rebuild,
    rebuild_forward,
    rebuild_from,
    summarise,
    summarise_head,
    turns,
    turns_page,
)
from clew.history.payload import object_from, text
from clew.history.turn_offsets import TurnOffsets
from clew.history.turns import Turn
from clew.rollout import (
    FailPoints,
    FileSystem,
    Home,
    MemorySource,
    RealFileSystem,
    Record,
    RolloutName,
    Skipped,
    ThreadFiles,
    read_head,
    read_thread,
    read_thread_back,
    scan_back,
    scan_forward,
)
from clew.rollout.offsets import ThreadLog
from clew.store.catalog import HomeCatalog
from clew.store.contracts import ListQuery, SearchQuery
from clew.testing.disk import MemoryFileSystem

__all__ = ["Broken", "Case", "CaseFile", "check"]

_SEPARATOR = b"\n%%%% "
_PATH = re.compile(
    r"(?:sessions/\d{4}/\d\d/\d\d|archived_sessions)/rollout-[0-9A-Za-z_-]{1,120}\.jsonl(?:\.zst!?)?"
    r"|session_index\.jsonl|saved_sessions\.json"
)
_DEFAULT = "sessions/2026/07/01/rollout-2026-07-01T12-00-00-019f1d8c-e202-7000-8000-00000000000{}.jsonl"
_CUTS = 4
_NAMED = ("task_complete", "turn_complete", "turn_aborted", "item_completed")
_T = TypeVar("_T")


class Broken(AssertionError):
    """Two answers contradict each other, or a line was lost."""


@dataclass(frozen=True)
class CaseFile:
    """One file: its path in the home and its bytes. `.zst`: they are compressed before they are written; `.zst!`: they
    are written as they are."""

    path: str
    data: bytes


@dataclass(frozen=True)
class Case:
    """A home. `on_disk`: in a real folder, else in memory."""

    files: tuple[CaseFile, ...]
    on_disk: bool = False

    def encode(self) -> bytes:
        """As one run of bytes that a fuzzer can change anywhere."""
        parts = [file.path.encode() + b"\n" + file.data for file in self.files]
        return (b"disk" if self.on_disk else b"memory") + b"".join(_SEPARATOR + part for part in parts)

    @staticmethod
    def decode(data: bytes) -> Case:
        """Any bytes are a case: what is no path gets one."""
        head, *parts = data.split(_SEPARATOR)
        if not parts:
            parts = [data]
        files: dict[str, CaseFile] = {}
        for number, part in enumerate(parts[:3]):
            name, _, content = part.partition(b"\n")
            path = name.decode("latin-1")
            if _PATH.fullmatch(path) is None:
                path, content = _DEFAULT.format(number), part
            files[path.removesuffix("!")] = CaseFile(path, content)
        return Case(tuple(files.values()), on_disk=head[:4] == b"disk")


def check(case: Case, folder: Path) -> None:
    """Put the case into a home and ask everything. `folder` is an empty folder on disk, used by cases on disk only."""
    fs: FileSystem = RealFileSystem() if case.on_disk else MemoryFileSystem()
    home = Home(fs, folder if case.on_disk else Path("/home/codex"))
    plain: dict[str, bytes] = {}
    for file in case.files:
        path = home.path / file.path.removesuffix("!")
        data = file.data
        if path.suffix == ".zst" and not file.path.endswith("!"):
            data = _packed(data)
        if path.suffix != ".zst" or not file.path.endswith("!"):
            plain[str(path).removesuffix(".zst")] = file.data
        fs.make_folder(path.parent)
        opened = fs.open_append(path)
        opened.write(data)
        opened.close()
    for data in plain.values():
        _check_lines(data)
    found = sorted(home.threads(), key=lambda files: files.thread_id)
    for files in found:
        _agree("find gives what the walk gave", home.find(files.thread_id), files)
        _check_thread(home, files, plain)
    _check_catalog(home, found)
    if case.on_disk:
        out = io.StringIO()
        _agree("inspect knows its threads", inspect_home(home.path, None, out), 0)
        lines = [json.loads(line) for line in out.getvalue().splitlines()]
        _agree("inspect gives a line per thread", sorted(line["id"] for line in lines), [f.thread_id for f in found])


def _packed(data: bytes) -> bytes:
    """In two frames, the first without its size."""
    half = len(data) // 2
    first = zstandard.ZstdCompressor(level=1, write_content_size=False, write_checksum=True).compress(data[:half])
    return first + zstandard.ZstdCompressor(level=1).compress(data[half:])


# -- lines


def _check_lines(data: bytes) -> None:
    """Both directions give the same lines, in blocks of any size, and every line that is one is read."""
    forward = list(scan_forward(MemorySource(data)))
    _agree("small blocks", list(scan_forward(MemorySource(data), block=97)), forward)
    backward = _unnumbered(reversed(list(scan_back(MemorySource(data), block=89))))
    _agree("backward", backward, _unnumbered(forward))
    only = [line for line in forward if isinstance(line, Skipped) or line.type == "compacted"]
    _agree("only", list(scan_forward(MemorySource(data), only={"compacted"})), only, unless=_hidden(data))
    places = {line.start: line for line in forward}
    start = 0
    for piece in data.split(b"\n"):
        expected = _readable(piece)
        if expected is not None:
            line = places.get(start)
            if not isinstance(line, Record):
                raise Broken(f"a readable line at {start} was not read: {line}")
            _agree("type", line.type, expected[0])
            with contextlib.suppress(RecursionError):  # ours, on the way through a deep one
                _agree("payload", _plain(json.loads(bytes(line.payload))), _plain(expected[1]))
        start += len(piece) + 1


def _hidden(data: bytes) -> bool:
    """Lines that `only` passes over are not looked into, so that damaged ones among them are not told."""
    return any(isinstance(line, Skipped) for line in scan_forward(MemorySource(data)))


def _readable(piece: bytes) -> tuple[str, Any] | None:
    """Type and payload of what a plain JSON reader takes for a line of a rollout; the era before envelopes is left
    out."""
    try:
        value: Any = json.loads(piece.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    fields = cast("dict[str, Any]", value)
    kind = fields.get("type")
    return (_whole(kind), fields["payload"]) if isinstance(kind, str) and "payload" in fields else None


def _plain(value: Any) -> Any:
    """Without what JSON has no words for."""
    if isinstance(value, str):
        return _whole(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, list):
        return [_plain(member) for member in cast("list[Any]", value)]
    if isinstance(value, dict):
        return {_whole(name): _plain(member) for name, member in cast("dict[str, Any]", value).items()}
    return value


def _whole(said: str) -> str:
    return said.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _unnumbered(lines: Iterable[Record | Skipped]) -> list[Record | Skipped]:
    return [msgspec.structs.replace(line, number=0) for line in lines]


# -- threads


def _check_thread(home: Home, files: ThreadFiles, plain: dict[str, bytes]) -> None:
    forward = _told(lambda: list(read_thread(home, files)))
    backward = _told(lambda: list(read_thread_back(home, files)))
    line = inspect_thread(home, files)
    msgspec.json.encode(line)
    if forward is None or backward is None:
        _agree("both directions refuse", forward, backward)
        return
    own = plain.get(str(files.current.plain_path))
    if own is not None:
        last = list(scan_forward(MemorySource(own)))
        known = [each for each in forward if each.number or each.start < each.end]
        _agree("own lines", known[len(known) - len(last) :], last)
    # What tells of a chain that breaks off has no place, and comes last either way.
    placed = [each for each in forward if each.end or isinstance(each, Record)]
    placed_back = [each for each in backward if each.end or isinstance(each, Record)]
    _agree("forward and backward", _unnumbered(placed), _unnumbered(reversed(placed_back)))
    head = read_head(home, files.current)
    meta = _told(lambda: read_meta(head))
    if meta is None:
        raise Broken("a thread is read whose metadata are refused")
    full, bounded = rebuild_forward(forward, head), rebuild(iter(backward), head)
    quick = rebuild_from(lambda passes: read_thread_back(home, files, passes=passes), head)
    for name in ("items", "recorded", "baseline", "world_state", "window", "last_turn_id", "open_turn_id"):
        _agree(f"rebuilt {name}", getattr(bounded, name), getattr(full, name))
        _agree(f"quickly rebuilt {name}", getattr(quick, name), getattr(full, name))
    _agree("requests", bounded.request_items(openai=True), full.request_items(openai=True))
    full.estimate_tokens()
    any(is_user_boundary(item.value()) for item in full.items)
    _check_turns(ThreadLog(home, files), forward, backward, full.history_mode, meta.subagent_start)
    summarise(head, forward)
    summarise_head(head, forward)


def _check_turns(
    log: ThreadLog,
    forward: Sequence[Record | Skipped],
    backward: Sequence[Record | Skipped],
    mode: str,
    start: int | None,
) -> None:
    shown = turns(forward, mode, subagent_start=start)
    if mode == "paginated" and _orderly(forward, start):
        paged: list[Any] = []
        before, more = None, True
        while more:
            page = turns_page(iter(backward), limit=2, before=before, subagent_start=start)
            paged += page.turns
            before, more = (page.turns[-1].id, page.more) if page.turns else (None, False)
        _agree("pages", paged[::-1], shown)
    offsets = TurnOffsets(mode, subagent_start=start)
    unique = len({turn.id for turn in shown}) == len(shown)  # else pages cannot name where they go on
    for limit in (len(shown) + 1, 2 if unique else len(shown) + 1):  # from memory, then from the places
        offsets.extend(log)
        _agree("turns by their places", _turn_pages(offsets, log, limit), shown)
    find_cut(forward, mode, subagent_start=start)
    for turn in (*shown[:_CUTS], *shown[-1:]):
        for side in ("after_turn", "before_turn"):
            try:
                find_cut(forward, mode, subagent_start=start, **{side: turn.id})
            except BadRequest as error:
                if side == "before_turn" or "has not ended" not in error.why:
                    raise Broken(f"a turn that is shown cannot be cut at: {error}") from error


def _turn_pages(offsets: TurnOffsets, log: ThreadLog, limit: int) -> list[Turn]:
    """All turns, page by page."""
    found: list[Turn] = []
    after = None
    while True:
        page = offsets.page(log, limit=limit, after=after)
        if page is None:
            raise Broken(f"a page ended with {after}, which is not known")
        found += page.turns
        if not page.more:
            return found
        after = found[-1].id


def _orderly(lines: Iterable[Record | Skipped], start: int | None) -> bool:
    """Whether every turn starts once, before it ends, and its items stand behind the start of the turn before it: what
    pages from the end take for granted."""
    starts: list[str] = []
    for line in lines:
        if not isinstance(line, Record) or line.type != "event_msg":
            continue
        if start is not None and line.ordinal is not None and line.ordinal < start:
            continue
        event = object_from(line.payload) or {}
        kind, turn_id = event.get("type"), text(event.get("turn_id"))
        if turn_id is None:
            continue
        if kind in ("task_started", "turn_started"):
            if turn_id in starts:
                return False
            starts.append(turn_id)
        elif (
            kind in ("task_complete", "turn_complete", "turn_aborted", "item_completed") and turn_id not in starts[-1:]
        ):
            return False
    return True


def _check_catalog(home: Home, found: Sequence[ThreadFiles]) -> None:
    catalog = HomeCatalog(home, Path("/home/clew"), owner=Owner("fuzz"), clock=SystemClock(), fail=FailPoints())
    listed: list[str] = []
    cursor = None
    while True:
        page = catalog.list(ListQuery(archived=None, limit=2, sort="created", cursor=cursor))
        listed += [thread.id for thread in page.threads]
        cursor = page.next_cursor
        if cursor is None:
            break
    _agree("every thread is listed", sorted(listed), [files.thread_id for files in found])
    _told(lambda: catalog.search(SearchQuery(text="first?", mode="text")))
    for files in found:
        _agree("resolve by id", catalog.resolve(files.thread_id), catalog.get(files.thread_id))
        _told(lambda wanted=files.thread_id[:13]: catalog.resolve(wanted))
    for reference in ("last", "a name", "\ud800"):
        _told(lambda wanted=reference: catalog.resolve(wanted))


def _told(ask: Callable[[], _T]) -> _T | None:
    """The answer; None for an error that says what is wrong."""
    try:
        return ask()
    except ClewError as error:
        if not error.message:
            raise Broken("an error that says nothing") from error
        return None


def _agree(what: str, got: Any, expected: Any, *, unless: bool = False) -> None:
    if got != expected and not unless:
        raise Broken(f"{what}: {str(got)[:2000]} is not {str(expected)[:2000]}")


def is_rollout(path: str) -> bool:
    """Whether a path of a case names a rollout."""
    return RolloutName.parse(path.rpartition("/")[2].removesuffix("!")) is not None
