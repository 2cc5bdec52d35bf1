"""Measure how fast what was said in a home is digested and indexed, and how fast words are found in it.

    python benchmarks/indexing.py --home DIR                 # a home, which is only read
    python benchmarks/indexing.py --home DIR --runs 5 --word refactor --word zyxquartz

Each run makes a fresh index in a process of its own. The digest alone is processor time of one core over files that are
in memory; the rest is the clock on the wall, with the processor time of all threads beside it. Searches are the medians
of many in one process, warm.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import apsw
from figures import Figure, Report, machine

from clew.history.digest import Digest, digest_lines
from clew.history.said import Said
from clew.index.digestion import Work
from clew.index.helpers import start_helpers
from clew.index.ingest import ingest
from clew.index.schema import FILES_DDL
from clew.index.sql import row, run
from clew.index.word_search import WordQuery, Words, find_words
from clew.index.words import WORDS_DDL
from clew.rollout import Home, RealFileSystem

QUESTIONS = ("refactor", "zyxquartz", '"fix the"', "refactor zyxquartz", "zyx*", "nosuchwordatall")
SAMPLE = 1000


def _build(folder: Path, path: Path) -> dict[str, Any]:
    home = Home(RealFileSystem(), folder)
    connection = apsw.Connection(str(path))
    run(connection, "PRAGMA journal_mode = wal; PRAGMA synchronous = normal; PRAGMA cache_size = -8192")
    run(connection, FILES_DDL + WORDS_DDL)
    files = sorted(home.files(), key=lambda file: file.mtime_ns, reverse=True)
    work = [Work(file=file, path=str(file.plain_path.relative_to(folder))) for file in files]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began, cpu = time.perf_counter(), time.process_time()
    helpers = start_helpers()
    report = ingest(connection, helpers, work)
    for helper in helpers:
        helper.close()
    seconds, spent = time.perf_counter() - began, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    documents = row(connection, "SELECT count(*) FROM docs")
    connection.close()
    return {
        "seconds": seconds,
        "cpu": spent,
        "files": report.files,
        "bytes": report.bytes,
        "failed": len(report.failed),
        "documents": documents[0] if documents else 0,
        "size": path.stat().st_size,
        "peak": peak / 1024,
        "added": (peak - before) / 1024,
    }


def _digest(folder: Path) -> float:
    """Microseconds per file."""
    home = Home(RealFileSystem(), folder)
    plain = [file.path for file in home.files() if not file.compressed]
    random.seed(1)
    data = [path.read_bytes() for path in random.sample(plain, min(SAMPLE, len(plain)))]
    if not data:
        return 0.0
    began = time.thread_time()
    for content in data:
        digest_lines(Digest(), content, list[Said]())
    return (time.thread_time() - began) / len(data) * 1e6


def _words(text: str) -> Words:
    if text.startswith('"'):
        return ((tuple(text.strip('"').split()), False),)
    return tuple(((part.rstrip("*"),), part.endswith("*")) for part in text.split())


def _search(path: Path, text: str, times: int) -> tuple[float, ...]:
    connection = apsw.Connection(str(path))
    run(connection, "PRAGMA cache_size = -8192")
    query = WordQuery(words=_words(text))
    taken: list[float] = []
    for _ in range(times + 3):
        began = time.perf_counter()
        find_words(connection, query)
        taken.append((time.perf_counter() - began) * 1000)
    connection.close()
    return tuple(taken[3:])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--word", action="append", dest="words")
    parser.add_argument("--seconds", type=float, help="the most that indexing may take")
    parser.add_argument("--build", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.build is not None:
        print(json.dumps(_build(chosen.home, chosen.build)))
        return 0
    figures: list[Figure] = []
    with TemporaryDirectory() as folder:
        built: list[dict[str, Any]] = []
        for number in range(chosen.runs):
            command = [sys.executable, __file__, "--home", str(chosen.home), "--build", f"{folder}/{number}"]
            found = subprocess.run(command, check=True, capture_output=True, text=True)
            built.append(json.loads(found.stdout))

        def figure(name: str, unit: str, key: str, scale: float = 1.0, target: float | None = None) -> None:
            runs = tuple(entry[key] * scale for entry in built)
            figures.append(Figure(name=name, unit=unit, runs=runs, target=target))

        first = built[0]
        print(f"{first['files']} files, {first['bytes'] / 1e6:.0f} MB, {first['documents']} documents")
        figure("index everything", "s", "seconds", target=chosen.seconds)
        figure("… processor time", "s", "cpu")
        figure("size of the index", "MB", "size", 1e-6)
        figure("most memory of the process", "MB", "peak")
        figure("… of it for this", "MB", "added")
        digested = tuple(_digest(chosen.home) for _ in range(chosen.runs))
        if statistics.median(digested):
            figures.append(Figure(name="digest a file", unit="µs of processor time", runs=digested))
        for text in chosen.words or QUESTIONS:
            found = _search(Path(folder) / "0", text, 30)
            figures.append(Figure(name=f"search {text}", unit="ms", runs=found, target=5.0))
    print(Report(machine=machine(), peer="", figures=figures).markdown())
    return 1 if any(entry.met is False for entry in figures) else 0


if __name__ == "__main__":
    sys.exit(main())
