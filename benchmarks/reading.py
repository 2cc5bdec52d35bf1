"""Measure how clew reads and appends, beside what the machine itself can do and the real Codex, on the same files.

    python benchmarks/reading.py                      # all of it, some minutes
    python benchmarks/reading.py --only pages --runs 3

Saves `reading.json` and `reading.md` in `benchmarks/results`. "Limit" is a plain program that reads the same bytes and
decodes as little of each line as the question needs. Each reading of clew runs in a fresh process that has read a small
thread before, so that nothing is loaded from elsewhere while the clock runs.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import rollouts
from figures import Figure, Report, machine
from rollouts import Built, build

from clew.clock import SystemClock
from clew.history import rebuild_from
from clew.history.turn_offsets import TurnOffsets
from clew.rollout import Home, Line, RealFileSystem, read_head, read_thread_back
from clew.rollout.offsets import ThreadLog
from clew.rollout.writer import LogWriter
from drivers import Peer, PeerMissing, World, find_peer

VERSION = "0.169.0"
RESULTS = Path(__file__).resolve().parent / "results"
PAGES = 40

# -- in a process of its own


def _peak() -> float:
    rows = Path("/proc/self/status").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("VmHWM")) / 1024


def _timed(ask: Callable[[], Any]) -> tuple[float, float, float]:
    """Milliseconds, those of CPU among them, and the most memory above what there was before, in MB."""
    Path("/proc/self/clear_refs").write_text("5")
    before, begin, cpu = _peak(), time.perf_counter(), time.process_time()
    answer = ask()
    elapsed, spent = time.perf_counter() - begin, time.process_time() - cpu
    peak = _peak() - before
    del answer
    return elapsed * 1000, spent * 1000, peak


def _context(home: Home, thread_id: str) -> Any:
    files = home.find(thread_id)
    assert files is not None
    head = read_head(home, files.current)
    return rebuild_from(lambda passes: read_thread_back(home, files, passes=passes), head)


def _offsets(home: Home, thread_id: str, known: TurnOffsets | None = None) -> tuple[TurnOffsets, ThreadLog]:
    files = home.find(thread_id)
    assert files is not None
    log, offsets = ThreadLog(home, files), known or TurnOffsets("legacy")
    offsets.extend(log)
    return offsets, log


def _all_turns(home: Home, thread_id: str) -> Any:
    offsets, log = _offsets(home, thread_id)
    return offsets.page(log, limit=1 << 30)


def _inside(what: str, folder: Path, thread_id: str, small: str) -> None:
    """Print what one run gave: milliseconds, those of CPU, megabytes."""
    home = Home(RealFileSystem(), folder)
    _context(home, small)
    _all_turns(home, small)
    if what == "pages":
        offsets, log = _offsets(home, thread_id)
        page = offsets.page(log, limit=1 << 30)
        assert page is not None
        ids, chance, runs = [turn.id for turn in page.turns], random.Random(7), list[tuple[float, float, float]]()
        del page
        for _ in range(PAGES):
            after, newest = chance.choice(ids), chance.random() < 0.5

            def ask(after: str = after, newest: bool = newest) -> Any:
                again, now = _offsets(home, thread_id, offsets)
                return again.page(now, limit=25, after=after, newest_first=newest)

            runs.append(_timed(ask))
    else:
        runs = [_timed(lambda: (_context if what == "context" else _all_turns)(home, thread_id))]
    sys.stdout.write(json.dumps(runs))


class _Runs(msgspec.Struct):
    times: list[float]
    cpu: list[float]
    peaks: list[float]

    def figures(
        self, name: str, target: float, peer: Sequence[float], limit: Sequence[float], plain: str
    ) -> list[Figure]:
        """The figure itself, its CPU, and what the plain program takes."""
        wall = Figure(name=name, unit="ms", runs=tuple(self.times), peer_runs=tuple(peer), target=target)
        cpu = Figure(name="… CPU of it", unit="ms", runs=tuple(self.cpu))
        if not limit:
            return [wall, cpu]
        factor = wall.median / min(limit)
        return [wall, cpu, Figure(name=f"… limit: {plain} (x {factor:.1f})", unit="ms", runs=tuple(limit))]


def _runs(what: str, home: Path, built: Built, small: Built, runs: int) -> _Runs:
    told: list[list[float]] = []
    for _ in range(1 if what == "pages" else runs):
        command = [sys.executable, __file__, "--inside", what, str(home), built.thread_id, small.thread_id]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        told += json.loads(done.stdout)
    return _Runs(*(list(column) for column in zip(*told, strict=True)))


# -- what the machine can do


class _Bare(msgspec.Struct):
    type: str
    payload: msgspec.Raw


_bare = msgspec.json.Decoder(_Bare)


def _limit_tail(built: Built) -> None:
    """Back to the last compaction, and every line behind it decoded."""
    at, data = built.size, b""
    with built.path.open("rb") as file:
        while b'"type":"compacted"' not in data and at > 0:
            step = min(at, 1 << 18)
            at -= step
            file.seek(at)
            data = file.read(step) + data
    start = data.rfind(b"\n", 0, max(data.rfind(b'"type":"compacted"'), 0)) + 1
    for line in data[start:].splitlines():
        _bare.decode(line)


def _limit_all(built: Built) -> None:
    """Every line, envelope only."""
    with built.path.open("rb") as file:
        for line in file:
            _bare.decode(line)


def _limit_scan(built: Built) -> None:
    """All bytes, and where each line ends."""
    with built.path.open("rb") as file:
        while block := file.read(1 << 20):
            block.count(b"\n")


def _wall(ask: Callable[[], object]) -> float:
    begin = time.perf_counter()
    ask()
    return (time.perf_counter() - begin) * 1000


# -- the peer


def _peer_times(peer: Peer | None, world: World, built: Built, method: str, runs: int, **params: Any) -> list[float]:
    """Milliseconds from the request to the parsed answer, each in a fresh server that has its index."""
    from servers import Codex

    times: list[float] = []
    for number in range(runs + 1 if peer is not None else 0):
        assert peer is not None
        with Codex(peer, world) as server:
            server.initialize()
            server.settle()
            elapsed = _wall(lambda server=server: server.ask(method, {"threadId": built.thread_id, **params}))
        if number:
            times.append(elapsed)
    return times


def contexts(runs: int, peer: Peer | None, world: World) -> Iterator[Figure]:
    """The context of a legacy thread, as the first reply after a restart needs it."""
    small = build(world.home, world.work, megabytes=0.05, seed=9)
    for megabytes, seed, target in ((123, 1, 15.0), (500, 2, 20.0)):
        built = build(world.home, world.work, megabytes=megabytes, seed=seed)
        own = _runs("context", world.home, built, small, runs)
        limit = [_wall(lambda built=built: _limit_tail(built)) for _ in range(runs + 1)][1:]
        told = _peer_times(peer, world, built, "thread/resume", runs, excludeTurns=True, cwd=str(world.work))
        name = f"context of {megabytes} MB, compacted {built.live / 1e6:.1f} MB before its end"
        yield from own.figures(name, target, told, limit, "its tail, envelopes decoded")
        yield Figure(name="… memory above idle", unit="MB", runs=tuple(own.peaks), target=40)
        built.path.unlink()


def whole(runs: int, peer: Peer | None, world: World) -> Iterator[Figure]:
    """A legacy thread that was never compacted."""
    small = build(world.home, world.work, megabytes=0.05, seed=9)
    every, rollouts._EVERY = rollouts._EVERY, 1 << 60  # pyright: ignore[reportPrivateUsage] - no other way to say never
    try:
        built = build(world.home, world.work, megabytes=123, seed=3)
    finally:
        rollouts._EVERY = every  # pyright: ignore[reportPrivateUsage]
    own = _runs("context", world.home, built, small, runs)
    limit = [_wall(lambda: _limit_all(built)) for _ in range(runs + 1)][1:]
    told = _peer_times(peer, world, built, "thread/resume", runs, excludeTurns=True, cwd=str(world.work))
    yield from own.figures("context of 123 MB, never compacted", 300, told, limit, "all envelopes decoded")
    size = built.size / (1 << 20)
    shares = tuple(peak / size for peak in own.peaks)
    yield Figure(name="… memory above idle, by its size", unit="x", runs=shares, target=1.4)
    built.path.unlink()


def pages(runs: int, peer: Peer | None, world: World) -> Iterator[Figure]:
    """What people see of a legacy thread: all of it, then any page."""
    small = build(world.home, world.work, megabytes=0.05, seed=9)
    built = build(world.home, world.work, megabytes=123, seed=1)
    own = _runs("turns", world.home, built, small, runs)
    limit = [_wall(lambda: _limit_scan(built)) for _ in range(runs + 1)][1:]
    told = _peer_times(peer, world, built, "thread/read", runs, includeTurns=True)
    yield from own.figures("all turns of 123 MB, first time", 250, told, limit, "all bytes read, lines counted")
    own = _runs("pages", world.home, built, small, runs)
    told = _peer_times(peer, world, built, "thread/turns/list", runs, limit=25)
    yield from own.figures("any page of 25 turns after that", 3, told, (), "")
    built.path.unlink()


# -- appending


def appends(runs: int, _: Peer | None, world: World) -> Iterator[Figure]:
    """Records made durable, against writing and syncing the same bytes, turn by turn on the same disk."""
    payload = {"type": "agent_message", "message": "All of it is there, and nothing more. " * 20}
    line = Line("event_msg", payload)
    for group, target, count in ((1, 1 / 0.6, 200), (64, 1 / 0.9, 200)):
        shares: list[float] = []
        rates: list[float] = []
        for number in range(runs):
            path = world.home / f"append-{group}-{number}.jsonl"
            writer = LogWriter(RealFileSystem(), path, SystemClock())
            writer.append([line])
            writer.sync()
            data = path.read_bytes() * group
            plain = os.open(world.home / f"plain-{group}-{number}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

            def ours(writer: LogWriter = writer, lines: Sequence[Line] = (line,) * group) -> None:
                writer.append(lines)
                writer.sync()

            def bare(plain: int = plain, data: bytes = data) -> None:
                os.write(plain, data)
                os.fdatasync(plain)

            # A sync takes anything from 0.2 to 20 ms here. So both take turns, each first every other time, and one
            # slow sync must not decide.
            times: dict[Callable[[], None], list[float]] = {ours: [], bare: []}
            for turn in range(count):
                for act in (ours, bare) if turn % 2 else (bare, ours):
                    times[act].append(_wall(act))
            writer.close()
            os.close(plain)
            middle = median(times[ours])
            shares.append(middle / median(times[bare]))
            rates.append(group * 1000 / middle)
        what = "single records" if group == 1 else f"groups of {group}"
        yield Figure(
            name=f"append and sync, {what}: time by the disk's own", unit="x", runs=tuple(shares), target=target
        )
        yield Figure(name=f"… {what}", unit="records/s", runs=tuple(rates))


MEASURES: dict[str, Callable[[int, Peer | None, World], Iterator[Figure]]] = {
    "appends": appends,
    "contexts": contexts,
    "pages": pages,
    "whole": whole,
}


def main() -> int:
    if sys.argv[1:2] == ["--inside"]:
        _inside(sys.argv[2], Path(sys.argv[3]), *sys.argv[4:6])
        return 0
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=sorted(MEASURES), action="append", help="may be given several times")
    parser.add_argument("--runs", type=int, default=5, help="how often each figure is taken")
    parser.add_argument("--no-peer", action="store_true")
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    peer = None
    if not options.no_peer:
        try:
            peer = find_peer(VERSION)
        except PeerMissing as missing:
            print(f"Without the peer: {missing}", file=sys.stderr)
    report = Report(machine=machine(), peer=f"Codex {VERSION}" if peer else "", figures=[])
    with TemporaryDirectory(prefix="clew-reading-") as folder:
        for name in options.only or MEASURES:
            print(f"{name} …", file=sys.stderr, flush=True)
            world = World(Path(folder) / name, "http://127.0.0.1:9/v1")
            report.figures += MEASURES[name](options.runs, peer, world)
    table = report.markdown()
    print(table)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "reading.md").write_text(table)
    (options.out / "reading.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
