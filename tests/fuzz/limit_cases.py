"""Homes at the limits of what there may be, each made and read in a process of its own, whose memory is measured.

    python tests/fuzz/limit_cases.py NAME FOLDER

Prints one JSON object: `seconds` (of reading alone), `peak` (MB above what was taken before), and what was found.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from clew.history import rebuild, rebuild_from, turns
from clew.history.turn_offsets import TurnOffsets
from clew.ids import uuid7_at
from clew.rollout import (
    Home,
    RealFileSystem,
    Record,
    RolloutFile,
    ThreadFiles,
    read_head,
    read_thread,
    read_thread_back,
)
from clew.rollout.offsets import ThreadLog

__all__ = ["CASES"]

BEGAN = 1_782_907_200_000
GIGABYTE = 1 << 30
MANY = 100_000

Told = dict[str, Any]
Case = Callable[[Home], Callable[[], Told]]


def thread_id(number: int) -> str:
    return uuid7_at(BEGAN + number, number.to_bytes(10, "big"))


def path_of(home: Home, number: int, segment: int | None = None) -> Path:
    path = home.new_path(thread_id(number), BEGAN / 1000, None if segment is None else thread_id(segment))
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def line(kind: str, payload: Any, ordinal: int | None = None) -> bytes:
    number = {} if ordinal is None else {"ordinal": ordinal}
    said = {"timestamp": "2026-07-01T12:00:00.000Z", **number, "type": kind, "payload": payload}
    return json.dumps(said, separators=(",", ":")).encode() + b"\n"


def head(number: int, **members: Any) -> bytes:
    meta = {"id": thread_id(number), "timestamp": "2026-07-01T12:00:00.000Z", "cwd": "/w", **members}
    return line("session_meta", meta, 0 if "history_mode" in members else None)


def said(text: str) -> bytes:
    return line("response_item", {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})


def the_thread(home: Home, number: int = 0) -> ThreadFiles:
    found = home.find(thread_id(number))
    assert found is not None
    return found


def summed(lines: Iterable[Any]) -> Told:
    """How many lines there were, and why others were not."""
    read, skipped = 0, list[str]()
    for each in lines:
        if isinstance(each, Record):
            read += 1
        else:
            skipped.append(each.why)
    return {"read": read, "skipped": skipped}


def both_ways(home: Home) -> Told:
    files = the_thread(home)
    forward, backward = summed(read_thread(home, files)), summed(read_thread_back(home, files))
    context = rebuild(read_thread_back(home, files), read_head(home, files.current))
    return {"forward": forward, "backward": backward, "items": len(context.items)}


# -- the homes


def gigabyte_line(home: Home) -> Callable[[], Told]:
    """A line of 1 GB between two others; most of it is a hole in the file."""
    with path_of(home, 0).open("wb") as file:
        file.write(head(0) + said("before") + b'{"timestamp":"t","type":"event_msg","payload":"')
        file.truncate(file.tell() + GIGABYTE)
        file.seek(0, 2)
        file.write(b'"}\n' + said("after"))
    return lambda: both_ways(home)


def bomb(home: Home) -> Callable[[], Told]:
    """A compressed file that unpacks to 100 GB."""
    import zstandard

    packer = zstandard.ZstdCompressor(level=1)
    first = packer.compress(head(0) + said("before"))
    zeros = packer.compress(bytes(GIGABYTE))
    path = path_of(home, 0)
    path.with_name(path.name + ".zst").write_bytes(first + zeros * 100)
    return lambda: both_ways(home)


def cycle(home: Home) -> Callable[[], Told]:
    for number, other in ((0, 1), (1, 0)):
        base = {"thread_id": thread_id(other), "end_ordinal_exclusive": 100, "end_byte_offset": 1 << 20}
        path_of(home, number).write_bytes(head(number, history_mode="paginated", history_base=base) + said("own"))
    return lambda: both_ways(home)


def _chain(home: Home, *, segments: bool) -> Callable[[], Told]:
    offset = 0
    for number in range(MANY - 1, -1, -1):  # the current one is number 0 of the forks, the last one of the segments
        place = MANY - 1 - number
        base = None
        if place:
            before = thread_id(place - 1 if segments else number + 1)
            base = {"thread_id": before, "end_ordinal_exclusive": 9, "end_byte_offset": offset}
        own = head(0 if segments else number, history_mode="paginated", history_base=base) + line("event_msg", {}, 1)
        offset = len(own)
        path = path_of(home, 0, place if place else None) if segments else path_of(home, number)
        path.write_bytes(own)
    return lambda: {
        "forward": summed(read_thread(home, the_thread(home))),
        "backward": summed(read_thread_back(home, the_thread(home))),
    }


def forks(home: Home) -> Callable[[], Told]:
    """A fork of a fork of a fork …"""
    return _chain(home, segments=False)


def segments(home: Home) -> Callable[[], Told]:
    """A thread that was reverted again and again."""
    return _chain(home, segments=True)


def _short_lines(turn: Callable[[int], bytes]) -> Case:
    def make(home: Home) -> Callable[[], Told]:
        with path_of(home, 0).open("wb") as file:
            file.write(head(0))
            file.writelines(map(turn, range(250_000)))

        def ask() -> Told:
            files = the_thread(home)
            context = rebuild_from(
                lambda passes: read_thread_back(home, files, passes=passes), read_head(home, files.current)
            )
            whole = turns(read_thread(home, files), "legacy")
            log, offsets = ThreadLog(home, files), TurnOffsets("legacy")
            offsets.extend(log)
            page = offsets.page(log, limit=25, newest_first=True)
            assert page is not None
            assert list(page.turns) == whole[:-26:-1]
            return {"items": len(context.items), "turns": len(whole)}

        return ask

    return make


def _turn(number: int) -> bytes:
    started, ended = ({"type": kind, "turn_id": f"t{number}"} for kind in ("task_started", "task_complete"))
    return (
        line("event_msg", started)
        + line("event_msg", {"type": "user_message", "message": "x"})
        + said("x")
        + line("event_msg", ended)
    )


def _odd(number: int) -> bytes:
    """Ends of turns that nobody knows, and calls that end again and again in one turn."""
    return (
        line("event_msg", {"type": "task_complete", "turn_id": f"unknown {number}"})
        + line("event_msg", {"type": "web_search_end", "call_id": f"c{number}", "query": "q"})
        + line("event_msg", {"type": "thread_rolled_back", "num_turns": 0 if number % 1000 else 1})
        + line("event_msg", {"type": "context_compacted"})
    )


def large(home: Home) -> Callable[[], Told]:
    """A rollout of 500 MB: its context, a first and a later page, all its lines."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
    build: Any = importlib.import_module("rollouts").build

    built = build(home.path, Path("/w"), megabytes=500)

    def ask() -> Told:
        files = home.find(built.thread_id)
        assert files is not None
        idle = megabytes("VmRSS")
        context = rebuild_from(
            lambda passes: read_thread_back(home, files, passes=passes), read_head(home, files.current)
        )
        after_context = megabytes("VmHWM") - idle
        log, offsets = ThreadLog(home, files), TurnOffsets("legacy")
        offsets.extend(log)
        first = offsets.page(log, limit=25)
        begin = time.perf_counter()
        later = offsets.page(log, limit=25, newest_first=True)
        page = time.perf_counter() - begin
        assert first is not None
        assert later is not None
        found = summed(read_thread(home, files))
        return {"items": len(context.items), "context": after_context, "page": page, "read": found["read"]}

    return ask


def crowded(home: Home) -> Callable[[], Told]:
    """A folder with 100,000 files."""
    for number in range(MANY):
        path_of(home, number).touch()
    path_of(home, MANY).write_bytes(head(MANY) + said("here"))

    def ask() -> Told:
        files = the_thread(home, MANY)
        segment = home.find_segment(thread_id(MANY))
        assert isinstance(segment, RolloutFile)
        return summed(read_thread(home, files))

    return ask


CASES: dict[str, Case] = {
    "bomb": bomb,
    "crowded": crowded,
    "cycle": cycle,
    "forks": forks,
    "gigabyte_line": gigabyte_line,
    "large": large,
    "million_lines": _short_lines(_turn),
    "million_odd_lines": _short_lines(_odd),
    "segments": segments,
}

_status = Path("/proc/self/status")


def megabytes(name: str) -> float:
    """What the kernel says: `VmRSS` is what the process takes now, `VmHWM` the most it ever took."""
    return next(int(row.split()[1]) for row in _status.read_text().splitlines() if row.startswith(name)) / 1024


def main(name: str, folder: Path) -> int:
    ask = CASES[name](Home(RealFileSystem(), folder))
    # What making it took does not count.
    Path("/proc/self/clear_refs").write_text("5")
    before, begin = megabytes("VmRSS"), time.perf_counter()
    told = ask()
    seconds = time.perf_counter() - begin
    sys.stdout.write(json.dumps({"seconds": seconds, "peak": megabytes("VmHWM") - before, **told}))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
