"""Throw damaged homes at the reader and see that it never breaks, hangs or loses a line that can be read.

    python tests/fuzz/fuzz_reader.py --seconds 300 --seed 7
    python tests/fuzz/fuzz_reader.py --replay FOLDER/FILE

Guided by coverage where `atheris` is installed (`--engine`), else by chance alone: then the seed decides every case.
Begins with threads of every era and shape and, where there is one, with the corpus of recorded homes. Every finding is
saved once, with its traceback beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import random
import re
import resource
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Generator
from pathlib import Path
from types import FrameType
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

SLOWEST = 10
"""Seconds that a case may take."""

MEMORY = 3 << 30
LONGEST = 1 << 18


class TooSlow(BaseException):
    """A case took longer than any of its size may."""


class Findings:
    """What went wrong, once per kind and place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known = {path.stem for path in folder.glob("*.case")}

    def add(self, data: bytes, error: BaseException) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in frames if "/clew/" in frame.filename] or list(frames)
        words = re.sub(r"[^A-Za-z]+", "-", str(error).partition(":")[0])[:30].strip("-")
        name = f"{type(error).__name__}-{Path(ours[-1].filename).stem}-{ours[-1].lineno}-{words}"
        if name in self._known:
            return
        self._known.add(name)
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / f"{name}.case").write_bytes(data)
        (self._folder / f"{name}.txt").write_text("".join(traceback.format_exception(error))[-20_000:])
        sys.stderr.write(f"finding: {name}\n")


@contextlib.contextmanager
def limits() -> Generator[None]:
    """Bounds on memory for all, and a way to notice cases that do not end."""

    def ring(_: int, __: FrameType | None) -> None:
        raise TooSlow

    signal.signal(signal.SIGALRM, ring)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    yield


def run_one(data: bytes) -> None:
    from reader_target import Case, check

    case = Case.decode(data)
    with contextlib.ExitStack() as stack:
        folder = Path("/nowhere")
        if case.on_disk:
            memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clew-fuzz-", dir=memory)))
        signal.setitimer(signal.ITIMER_REAL, SLOWEST)
        try:
            check(case, folder)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)


def first_cases(shared: Path) -> list[Any]:
    from reader_mutations import built_cases, recorded_cases

    cases = built_cases()
    if (shared / "corpus").is_dir():
        cases += recorded_cases(shared / "corpus")
    return cases


def by_chance(seed: int, seconds: float, findings: Findings, cases: list[Any]) -> int:
    """Gives the number of executions."""
    from reader_mutations import mutated

    end = time.monotonic() + seconds
    done = 0
    for case in cases:
        attempt(case.encode(), findings)
        done += 1
    while time.monotonic() < end:
        rng = random.Random(f"{seed} {done}")
        attempt(mutated(rng.choice(cases), rng, cases).encode(), findings)
        done += 1
    return done


def attempt(data: bytes, findings: Findings) -> None:
    try:
        run_one(data)
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        findings.add(data, error)


def by_coverage(seed: int, seconds: float, findings: Findings, shared: Path) -> None:
    """Does not come back: the fuzzer ends the process."""
    import atheris  # pyright: ignore[reportMissingImports, reportMissingModuleSource] - only where it is installed

    fuzzer: Any = atheris
    with fuzzer.instrument_imports(include=["clew.rollout", "clew.history", "clew.store", "clew.cli.inspect"]):
        from reader_mutations import mutated
        from reader_target import Case
    cases = first_cases(shared)

    def mutate(data: bytes, most: int, number: int) -> bytes:
        rng = random.Random(number)
        if rng.random() < 0.2:
            return bytes(fuzzer.Mutate(data, most))
        return mutated(Case.decode(data), rng, cases).encode()[:most]

    with tempfile.TemporaryDirectory(prefix="clew-fuzz-seeds-") as seeds:
        for number, case in enumerate(cases):
            Path(seeds, f"{number:04}").write_bytes(case.encode())
        arguments = [sys.argv[0], f"-seed={seed}", f"-max_total_time={int(seconds)}", f"-max_len={LONGEST}"]
        arguments += ["-timeout=60", f"-rss_limit_mb={MEMORY >> 20}", "-print_final_stats=1", "-verbosity=0", seeds]

        def target(data: bytes) -> None:
            attempt(data, findings)

        fuzzer.Setup(arguments, target, custom_mutator=mutate)
        fuzzer.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big") + 1)
    parser.add_argument("--engine", choices=["auto", "coverage", "chance"], default="auto")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--shared", type=Path, default=HERE.parents[2] / "shared")
    parser.add_argument("--replay", type=Path, help="run one saved case and show what happens")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.replay is not None:
        with limits():
            run_one(options.replay.read_bytes())
        sys.stdout.write("It holds.\n")
        return 0
    engine = options.engine
    if engine == "auto":
        engine = "coverage" if importlib.util.find_spec("atheris") else "chance"
    findings, begin = Findings(options.findings), time.monotonic()
    before = set(options.findings.glob("*.case"))
    if engine == "chance":
        with limits():
            done = by_chance(options.seed, options.seconds, findings, first_cases(options.shared))
    elif options.inside:
        signal.signal(signal.SIGALRM, lambda _, __: (_ for _ in ()).throw(TooSlow()))  # the fuzzer bounds the memory
        by_coverage(options.seed, options.seconds, findings, options.shared)
        return 0
    else:
        # The fuzzer ends its process by itself, without a word to Python.
        command = [sys.executable, str(Path(__file__)), "--inside", "--engine", "coverage"]
        command += ["--seconds", str(options.seconds), "--seed", str(options.seed)]
        command += ["--findings", str(options.findings), "--shared", str(options.shared)]
        inside = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
        count = re.search(r"stat::number_of_executed_units: (\d+)", inside.stderr)
        if inside.returncode or count is None:
            sys.stderr.write(inside.stderr[-5000:])
            return 2
        done = int(count[1])
    found = sorted(set(options.findings.glob("*.case")) - before)
    sys.stdout.write(
        f"{done} executions by {engine} in {time.monotonic() - begin:.0f} s, seed {options.seed}: "
        f"{len(found)} findings{f' in {options.findings}' if found else ''}\n"
    )
    sys.stdout.writelines(f"  python {Path(__file__)} --replay {path}\n" for path in found)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
