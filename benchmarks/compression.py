"""Measure cold threads: how fast and how small they become, and what reading them costs beside plain ones.

    python benchmarks/compression.py                  # threads built for it, about half a minute
    python benchmarks/compression.py --home DIR       # the plain threads of a home, which is only read

Times of packing are processor time of one core; times of reading are the best of several runs in a warm cache.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import zstandard
from figures import machine
from rollouts import build

from clew.clock import SystemClock
from clew.errors import Owner
from clew.rollout import ByteSource, Home, MemorySource, RealFileSystem, scan_back, scan_forward
from clew.rollout.frames import FrameSource
from clew.rollout.packing import LEVEL, pack
from clew.rollout.source import PlainSource
from clew.store.cold import ColdRules, ColdWorker

FS = RealFileSystem()
SPEED, RATIO, TWICE = 250.0, 3.0, 2.0
TAIL_LINES = 100


class _Nowhere:
    def write(self, data: bytes) -> None:
        pass


class _Table:
    def __init__(self) -> None:
        self.rows: list[tuple[str, str, str]] = []
        self.missed = 0

    def add(self, name: str, value: float, unit: str, *, least: float | None = None, most: float | None = None) -> None:
        target = ""
        if least is not None or most is not None:
            met = (least is None or value >= least) and (most is None or value <= most)
            self.missed += not met
            target = f"{'≥' if least is not None else '≤'} {least or most:g} {'met' if met else 'MISSED'}"
        self.rows.append((name, f"{value:.3g} {unit}".strip(), target))

    def markdown(self) -> str:
        head = [("", "clew", "target"), ("---", "---", "---")]
        return "\n".join("| " + " | ".join(row) + " |" for row in [*head, *self.rows])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, help="a home with plain threads (it is not changed)")
    parser.add_argument("--level", type=int, default=LEVEL)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--megabytes", type=int, default=60, help="the largest thread that is built")
    options = parser.parse_args()
    table = _Table()
    with TemporaryDirectory(prefix="clew-bench-") as folder:
        home = options.home or _built(Path(folder, "built"), options.megabytes)
        paths = sorted(home.rglob("rollout-*.jsonl"), key=lambda path: path.stat().st_size)
        if not paths:
            print(f"{home} has no plain threads", file=sys.stderr)
            return 2
        _packing(table, paths, options.level, options.runs)
        _worker(table, paths, Path(folder, "copy"), options.level)
        _reading(table, paths[-1], Path(folder), options.level, options.runs)
    print(f"{table.markdown()}\n\n{len(paths)} threads, level {options.level}. {machine()}")
    return 1 if table.missed else 0


def _built(home: Path, megabytes: int) -> Path:
    for seed, size in enumerate([0.02, 0.06, 0.06, 0.2, 1.0, float(megabytes)]):
        build(home, home, megabytes=size, seed=seed)
    return home


def _packing(table: _Table, paths: Sequence[Path], level: int, runs: int) -> None:
    """The writer alone, on one core."""
    texts = [path.read_bytes() for path in paths]
    size = sum(map(len, texts))
    speeds: list[float] = []
    packed = 0
    for _ in range(runs):
        begin = time.process_time()
        packed = sum(pack(MemorySource(text), _Nowhere(), level=level).packed for text in texts)
        speeds.append(size / (time.process_time() - begin) / 1e6)
    table.add("packing, one core, median", statistics.median(speeds), "MB/s", least=SPEED)
    table.add("packing, one core, best", max(speeds), "MB/s")
    table.add("text by packed bytes", size / packed, "", least=RATIO)


def _worker(table: _Table, paths: Sequence[Path], folder: Path, level: int) -> None:
    """A whole run: reading, packing, syncing, verifying, naming; two at a time."""
    home = Home(FS, folder / "codex")
    target = home.sessions / "2026" / "01" / "01"
    target.mkdir(parents=True)
    for path in paths:
        shutil.copy2(path, target / path.name)
    size = sum(path.stat().st_size for path in paths)
    owner = Owner("compression benchmark")
    worker = ColdWorker(home, folder / "clew", owner=owner, clock=SystemClock())
    report = anyio.run(lambda: worker.compress(ColdRules(older_than=0.0, level=level)))
    assert len(report.of("compressed")) == len(paths), report.outcomes
    table.add("a run with all its checks, two at a time", size / report.seconds / 1e6, "MB/s")
    report = anyio.run(lambda: worker.materialise())
    table.add("unpacking all", size / report.seconds / 1e6, "MB/s")


def _reading(table: _Table, path: Path, folder: Path, level: int, runs: int) -> None:
    """The largest thread: plain, in frames, and in one frame as Codex packs it."""
    framed, single = folder / "framed.zst", folder / "single.zst"
    with closing(FS.open_read(path)) as plain, closing(FS.open_append(framed)) as packed:
        pack(PlainSource(plain), packed, level=level)
    text = path.read_bytes()
    single.write_bytes(zstandard.ZstdCompressor(level=level).compress(text))
    middle = text.index(b"\n", len(text) // 2) + 1
    kinds: dict[str, Callable[[], ByteSource]] = {
        "plain": lambda: PlainSource(FS.open_read(path)),
        "frames": lambda: FrameSource(FS.open_read(framed)),
        "one frame": lambda: FrameSource(FS.open_read(single)),
    }
    ways: dict[str, Callable[[ByteSource], None]] = {
        f"the last {TAIL_LINES} lines": lambda source: _use(islice(scan_back(source), TAIL_LINES)),
        f"{TAIL_LINES} lines in the middle": lambda source: _use(islice(scan_forward(source, middle), TAIL_LINES)),
        "all lines, newest first": lambda source: _use(scan_back(source)),
        "all lines, oldest first": lambda source: _use(scan_forward(source)),
    }
    size = len(text) / 1e6
    for what, way in ways.items():
        times = {kind: _best(make, way, runs) for kind, make in kinds.items()}
        for kind, seconds in times.items():
            table.add(f"{size:.0f} MB, {what}: {kind}", seconds * 1000, "ms")
        whole = what.startswith("all lines, newest")
        table.add(f"{what}: frames by plain", times["frames"] / times["plain"], "", most=TWICE if whole else None)


def _best(make: Callable[[], ByteSource], way: Callable[[ByteSource], None], runs: int) -> float:
    times: list[float] = []
    for _ in range(runs):
        begin = time.perf_counter()
        with closing(make()) as source:
            way(source)
        times.append(time.perf_counter() - begin)
    return min(times)


def _use(lines: Iterable[object]) -> None:
    assert sum(1 for _ in lines) > 0


if __name__ == "__main__":
    sys.exit(main())
