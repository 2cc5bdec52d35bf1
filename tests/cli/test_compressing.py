"""compress, materialize: what they do to a home, what they print, and what they say when something is in the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clew.cli import main, terminal
from clew.cli.compressing import span_seconds
from clew.cli.options import UsageError
from clew.errors import Owner
from clew.rollout import Home, RealFileSystem, WriterLock
from clew.testing import ThreadBuilder


class Kept:
    """A home with threads of certain ages."""

    def __init__(self, root: Path) -> None:
        self.home = Home(RealFileSystem(), root / "codex")
        self.clew_home = root / "clew"

    def add(self, seed: int, *, days: float = 30, archived: bool = False, size: int = 3000) -> tuple[str, Path]:
        made = ThreadBuilder("0.169", seed=seed).turn("Hello?", "Hello. " * (size // 7))
        path = made.write(self.home, archived=archived)
        when = time.time() - days * 86400
        os.utime(path, (when, when))
        return made.id, path

    def forms(self) -> set[str]:
        return {path.suffix for path in self.home.path.rglob("rollout-*") if path.is_file()} - {".lock"}


@pytest.fixture
def kept(homes: Path) -> Kept:
    return Kept(homes.parent)


Shown = Callable[..., tuple[str, str]]


@pytest.fixture
def clew(capsys: pytest.CaptureFixture[str]) -> Shown:
    def run(*words: str, code: int = 0) -> tuple[str, str]:
        assert main(list(words)) == code, capsys.readouterr()
        out, err = capsys.readouterr()
        return out, err

    return run


def _is_stderr(stream: object) -> bool:
    return stream is sys.stderr


def _is_nothing(_: object) -> bool:
    return False


def told(text: str) -> dict[str, Any]:
    return json.loads(text)


def test_all_cold_threads_are_compressed_and_unpacked(kept: Kept, clew: Shown) -> None:
    for seed in range(3):
        kept.add(seed)
    kept.add(9, days=1)
    out, err = clew("compress", "--all")
    assert out.startswith("3 files compressed: ")
    assert out.endswith("; passed over: 1 changed lately\n")
    assert "times smaller" in out
    assert err == ""
    assert kept.forms() == {".jsonl", ".zst"}
    out, _ = clew("compress", "--all")
    assert out == "0 files compressed; passed over: 3 compressed already, 1 changed lately\n"
    out, _ = clew("materialize", "--all")
    assert out.startswith("3 files unpacked: ")
    assert kept.forms() == {".jsonl"}


def test_a_thread_is_compressed_by_its_id_whatever_its_age(kept: Kept, clew: Shown) -> None:
    thread_id, path = kept.add(1, days=0)
    out, _ = clew("compress", thread_id[:13])
    assert out.startswith(f"{thread_id} compressed: ")
    assert not path.exists()
    assert clew("compress", "last")[0] == f"{thread_id} compressed already\n"
    assert clew("materialize", thread_id)[0].startswith(f"{thread_id} unpacked: ")
    assert clew("materialize", thread_id)[0] == f"{thread_id} plain already\n"


def test_a_dry_run_lists_and_changes_nothing(kept: Kept, clew: Shown) -> None:
    thread_id, path = kept.add(1)
    out, _ = clew("compress", "--all", "--dry-run", "--older-than", "2w")
    assert out.splitlines()[0].startswith(f"{thread_id} would be compressed: ")
    assert out.splitlines()[1].startswith("1 file would be compressed: ")
    assert path.exists()


def test_json_tells_everything(kept: Kept, clew: Shown) -> None:
    thread_id, path = kept.add(1, archived=True)
    size = path.stat().st_size
    kept.add(2)
    report = told(clew("compress", "--all", "--archived-only", "--json")[0])
    (file,) = report.pop("files")
    packed = path.with_name(f"{path.name}.zst").stat().st_size
    assert report.pop("seconds") >= 0
    assert report == {
        "skipped": {"active": 1},
        "before": size,
        "after": packed,
        "cleaned": 0,
        "stopped": False,
        "dry_run": False,
    }
    assert file.pop("seconds") >= 0
    assert file == {
        "thread_id": thread_id,
        "path": str(path),
        "result": "compressed",
        "reason": "",
        "message": "",
        "before": size,
        "after": packed,
    }


def test_levels_make_a_difference(kept: Kept, clew: Shown) -> None:
    kept.add(1, size=200_000)
    kept.add(2, size=200_000)
    small = told(clew("compress", "--all", "--level", "19", "--json")[0])["after"]
    clew("materialize", "--all")
    assert told(clew("compress", "--all", "--level", "1", "--json")[0])["after"] >= small


def test_a_busy_thread_that_was_asked_for_is_an_error_that_names_the_holder(kept: Kept, clew: Shown) -> None:
    thread_id, path = kept.add(1)
    other, _ = kept.add(2)
    lock = WriterLock.acquire(kept.home, kept.clew_home, thread_id, Owner("clew mcp", os.getpid()))
    out, err = clew("compress", thread_id, other, code=1)
    assert out.startswith(f"{other} compressed: ")
    assert err.startswith(f"Error: thread {thread_id} is being written by clew mcp (pid {os.getpid()})")
    assert "try again later" in err
    assert "1 busy" in clew("compress", "--all")[0]
    assert path.exists()
    lock.release()


def test_a_thread_that_is_too_young_for_the_age_that_was_named_is_an_error(kept: Kept, clew: Shown) -> None:
    thread_id, _ = kept.add(1, days=3)
    _, err = clew("compress", thread_id, "--older-than", "7d", code=1)
    assert err == f"Error: thread {thread_id} changed lately\nA smaller --older-than takes it, too.\n"


def test_one_unknown_thread_does_not_keep_the_others(kept: Kept, clew: Shown) -> None:
    thread_id, _ = kept.add(1)
    out, err = clew("compress", "nope", thread_id, code=1)
    assert out.startswith(f"{thread_id} compressed: ")
    assert err.startswith("Error: no thread is called nope\n")
    out, err = clew("materialize", "nope", code=1)
    assert out == "0 files unpacked\n"


def test_a_damaged_file_is_told_and_left(kept: Kept, clew: Shown) -> None:
    thread_id, path = kept.add(1)
    clew("compress", "--all")
    packed = path.with_name(f"{path.name}.zst")
    packed.write_bytes(packed.read_bytes()[:-200])
    _, err = clew("materialize", "--all", code=1)
    assert err.startswith(f"Error: thread {thread_id}: {packed}: damaged zstd file")
    assert packed.exists()


def test_another_run_is_given_way(kept: Kept, clew: Shown) -> None:
    kept.add(1)
    marker = kept.home.path / ".tmp" / "rollout-compression.lock"
    marker.parent.mkdir()
    marker.write_text(f"pid={os.getpid()} started_at=1")
    _, err = clew("compress", "--all", code=1)
    assert err == (
        f"Error: another run compresses the threads of this home (pid {os.getpid()})\n"
        f"Try again when it is done. If there is none, remove {marker}.\n"
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["compress"], "which threads?"),
        (["materialize"], "which threads?"),
        (["compress", "--all", "x"], "threads and --all exclude each other"),
        (["compress", "--all", "--older-than", "yesterday"], "--older-than: 'yesterday' is no length of time"),
        (["compress", "--all", "--rate", "0"], "--rate: a number of MB per second above 0"),
        (["compress", "--all", "--level", "20"], "level: give a number from 1 to 19"),
    ],
)
def test_wrong_usage_says_what_would_be_right(kept: Kept, clew: Shown, words: list[str], said: str) -> None:
    _, err = clew(*words, code=2)
    assert said in err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("30s", 30), ("30min", 1800), ("12h", 43200), ("7d", 604800), ("1.5d", 129600), ("2 w", 1209600)],
)
def test_lengths_of_time_are_understood(text: str, seconds: float) -> None:
    assert span_seconds(text) == seconds


def test_other_words_for_lengths_are_refused() -> None:
    for text in ("", "7", "-1d", "7 moons"):
        with pytest.raises(UsageError, match="is no length of time"):
            span_seconds(text)


def test_a_bar_is_shown_on_a_terminal_only(kept: Kept, clew: Shown, monkeypatch: pytest.MonkeyPatch) -> None:
    kept.add(1)
    monkeypatch.setattr(terminal, "is_terminal", _is_stderr)
    monkeypatch.setenv("FORCE_COLOR", "1")
    out, err = clew("compress", "--all")
    assert out.startswith("1 file compressed")
    assert "compress" in err
    monkeypatch.setattr(terminal, "is_terminal", _is_nothing)
    assert clew("materialize", "--all")[1] == ""


def _run_slowly(kept: Kept) -> subprocess.Popen[str]:
    """A run that would take minutes, once it has compressed a first thread."""
    process = subprocess.Popen(
        [sys.executable, "-m", "clew", "compress", "--all", "--rate", "0.02"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 20
    while ".zst" not in kept.forms() or not list(kept.home.path.rglob("rollout-compress-*")):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    return process


def test_ctrl_c_leaves_things_clean_and_says_what_was_done(kept: Kept, clew: Shown) -> None:
    for seed in range(8):
        kept.add(seed, size=100_000)
    process = _run_slowly(kept)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, err) == (130, "")
    assert "compressed: " in out
    assert out.endswith("; stopped before the end; the rest is as it was\n")
    assert kept.forms() == {".jsonl", ".zst"}
    assert not list(kept.home.path.rglob("rollout-compress-*"))
    assert not list((kept.home.path / ".tmp").iterdir())
    assert clew("compress", "--all")[0].startswith(tuple("1234567"))
    assert kept.forms() == {".zst"}


def test_a_killed_run_leaves_temporary_files_that_a_later_one_removes(kept: Kept, clew: Shown) -> None:
    threads = [kept.add(seed, size=100_000)[0] for seed in range(4)]
    process = _run_slowly(kept)
    process.kill()
    process.communicate(timeout=10)
    left = list(kept.home.path.rglob("rollout-compress-*"))
    assert left
    assert kept.forms() == {".jsonl", ".zst", ".tmp"}
    assert sorted(row["id"] for row in told(clew("list", "--json")[0])["threads"]) == sorted(threads)
    assert "removed" not in clew("compress", "--all")[0]
    assert kept.forms() == {".zst", ".tmp"}
    for path in left:
        os.utime(path, (0, 0))
    assert f"{len(left)} forgotten temporary file" in clew("compress", "--all")[0]
    assert kept.forms() == {".zst"}
