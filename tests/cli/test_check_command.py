"""`clew check` and `clew repair`: what they print, what they give, and that they say what they do."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from clew.cli import checking, main, terminal
from clew.clock import SystemClock
from clew.errors import Owner
from clew.rollout import Home, NameIndex, RealFileSystem, WriterLock
from clew.testing import ThreadBuilder

_STAMP = re.compile(r"\d{8}T\d{6}\.\d{3}Z")


@pytest.fixture
def home(homes: Path) -> Home:
    return Home(RealFileSystem(), Path(os.environ["CODEX_HOME"]))


def _thread(seed: int = 0) -> ThreadBuilder:
    return ThreadBuilder(start=1_783_000_000.0 + seed, seed=seed).turn("First?", "One.").turn("Second?", "Two.")


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(words)
    out, err = capsys.readouterr()
    return code, out, err


def _json(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, Any]:
    code, out, _ = _run(capsys, *words, "--json")
    return code, json.loads(out)


def test_a_whole_home_is_told_in_one_line(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    _thread().write(home)
    assert _run(capsys, "check") == (0, "1 thread, 1 file: nothing is wrong\n", "")


def test_notes_are_counted_and_shown_when_asked_for(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    builder = ThreadBuilder().kill_during_call("Go.")
    path = builder.write(home)
    assert _run(capsys, "check") == (0, "1 thread, 1 file: 2 notes (--notes shows them)\n", "")
    code, out, _ = _run(capsys, "check", "--notes")
    assert code == 0
    lines = out.splitlines()
    assert lines[:2] == [builder.id, f"  {path}"]
    assert [line.split(":")[0] for line in lines[2:4]] == ["  note    turn-open", "  note    call-open"]
    assert lines[4:] == ["", "1 thread, 1 file: 2 notes"]
    assert _run(capsys, "check", builder.id[:13]) == (0, out, "")


def test_damage_is_grouped_by_thread_with_what_to_do_next(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = _thread(), _thread(1)
    good.write(home)
    path = bad.edit(lambda data: data + b"one\ntwo").write(home)
    size = len(bad.data) - 7
    assert _run(capsys, "check") == (
        1,
        (
            f"{bad.id}\n"
            f"  {path}\n"
            f"  error   line-damaged: line 24 (byte {size}): JSON is malformed: invalid character (byte 0)\n"
            f"  warning torn-tail: line 25 (byte {size + 4}): 3 bytes of an unfinished line "
            "(Input data was truncated)\n"
            "\n"
            "2 threads, 2 files: 1 error, 1 warning\n"
            f"Next: clew repair drop-torn-tail {bad.id} --dry-run\n"
        ),
        "",
    )
    assert _run(capsys, "check", good.id)[0] == 0


def test_json_is_one_object(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    builder = _thread()
    path = builder.edit(lambda data: data + b"garbage\n").write(home)
    code, told = _json(capsys, "check")
    size = path.stat().st_size
    assert (code, told) == (
        1,
        {
            "home": str(home.path),
            "threads": 1,
            "files": 1,
            "bytes": size,
            "errors": 1,
            "warnings": 0,
            "notes": 0,
            "findings": [
                {
                    "code": "line-damaged",
                    "severity": "error",
                    "why": "JSON is malformed: invalid character (byte 0)",
                    "thread_id": builder.id,
                    "path": str(path),
                    "line": 24,
                    "offset": size - 8,
                    "count": 1,
                    "repair": None,
                }
            ],
        },
    )


def test_threads_are_found_by_name(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    builder = _thread()
    builder.write(home)
    NameIndex(home).rename(builder.id, "parser", SystemClock())
    home.session_index.with_name("session_index.jsonl.lock").chmod(0o600)
    assert _json(capsys, "check", "parser")[1]["threads"] == 1
    assert _run(capsys, "check", "lexer")[0] == 1
    assert _run(capsys, "check", "--nonsense")[0] == 2


def test_what_a_file_contains_does_not_steer_the_terminal(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    other = "\x1b[2Jforeign"
    builder = _thread().line("session_meta", {"id": other})
    builder.write(home)
    out = _run(capsys, "check")[1]
    assert "foreign" in out
    assert "\x1b" not in out


def test_a_quick_check_passes_over_the_middle(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    builder = _thread()
    builder.edit(lambda data: data.replace(b"\n", b"\ngarbage\n", 1)).write(home)
    assert _run(capsys, "check", "--quick")[0] == 0
    assert _run(capsys, "check")[0] == 1


def test_progress_is_shown_on_terminals_when_it_takes_long(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        _thread(number).write(home)
    assert "checking" not in _run(capsys, "check")[2]
    monkeypatch.setattr(terminal, "is_terminal", lambda stream: stream is sys.stderr)  # pyright: ignore[reportUnknownLambdaType,reportUnknownArgumentType]
    assert "checking" not in _run(capsys, "check")[2]
    monkeypatch.setattr(checking, "_PATIENCE", 0.0)
    monkeypatch.setattr(checking, "_STEP", 0.0)
    shown = _run(capsys, "check")[2]
    assert "checking: 3 of 3 files, 100 %" in shown
    assert shown.endswith("\r\x1b[K")


def test_a_repair_says_what_it_will_do_and_how_to_undo_it(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    builder = _thread().torn(20)
    path = builder.write(home)
    torn = path.read_bytes()
    cut = len(torn) - torn.rindex(b"\n") - 1
    code, out, _ = _run(capsys, "repair", "drop-torn-tail", "--dry-run")
    assert (code, out) == (
        0,
        f"{builder.id}\n  would cut line 23, {cut} bytes without an end, off {path.name}\n",
    )
    assert path.read_bytes() == torn
    code, out, _ = _run(capsys, "repair", "drop-torn-tail", builder.id)
    stamp = _STAMP.findall(out)[0]
    assert (code, out) == (
        0,
        (
            f"{builder.id}\n"
            f"  will cut line 23, {cut} bytes without an end, off {path.name}\n"
            f"  done; to put the originals back: clew repair undo {stamp}\n"
        ),
    )
    assert _run(capsys, "check")[0] == 0
    code, out, _ = _run(capsys, "repair", "--list")
    assert out.endswith(f"\nBackups (clew repair undo STAMP):\n{stamp}  drop-torn-tail {builder.id}\n")
    code, out, _ = _run(capsys, "repair", "undo", stamp)
    assert (code, out) == (0, f"  {path} is as before\ndrop-torn-tail of {stamp} is undone.\n")
    assert path.read_bytes() == torn
    assert _run(capsys, "repair", "drop-torn-tail", "--json")[0] == 0


def test_a_repair_as_json(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    builder = _thread().torn(20)
    builder.write(home)
    code, (plan,) = _json(capsys, "repair", "drop-torn-tail", "--dry-run")
    assert (code, plan["repair"], plan["thread_id"], len(plan["steps"])) == (0, "drop-torn-tail", builder.id, 1)
    code, (done,) = _json(capsys, "repair", "drop-torn-tail")
    assert (code, done["steps"], done["left"]) == (0, plan["steps"], [])
    assert Path(done["backup"]).name == f"{done['stamp']}-drop-torn-tail"
    told = _json(capsys, "repair", "--list")[1]
    assert [backup["stamp"] for backup in told["backups"]] == [done["stamp"]]
    assert {"name": "drop-torn-tail", "summary": "Cut an unfinished last line off.", "helps": ["torn-tail"]} in told[
        "repairs"
    ]
    assert _json(capsys, "repair", "undo", done["stamp"])[1]["state"] == "undone"


def test_nothing_to_do_is_no_failure(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    builder = _thread()
    builder.write(home)
    assert _run(capsys, "repair", "renumber") == (0, "There is nothing for renumber to do.\n", "")
    assert _run(capsys, "repair", "renumber", builder.id) == (0, f"{builder.id}\n  nothing for renumber to do\n", "")
    assert _run(capsys, "repair", "rebuild-names") == (0, "home\n  nothing for rebuild-names to do\n", "")


def test_a_held_thread_fails_and_the_others_are_repaired(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    held, free = _thread().torn(20), _thread(1).torn(20)
    for builder in (held, free):
        builder.write(home)
    lock = WriterLock.acquire(home, Path(os.environ["CLEW_HOME"]), held.id, Owner("clew test", os.getpid()))
    try:
        code, out, err = _run(capsys, "repair", "drop-torn-tail", held.id, free.id)
    finally:
        lock.release()
    assert code == 1
    assert f"thread {held.id} is being written by clew test" in err
    assert out.count("done") == 1


@pytest.mark.parametrize(
    "words",
    [
        ["repair"],
        ["repair", "nonsense"],
        ["repair", "--list", "renumber"],
        ["repair", "undo"],
        ["repair", "undo", "one", "two"],
        ["repair", "undo", "20260701T120000.123Z"],
        ["repair", "rebuild-names", "parser"],
        ["repair", "--list", "--dry-run"],
    ],
)
def test_wrong_usage_is_told(home: Home, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = _run(capsys, *words)
    assert (code, out) == (2, "")
    assert err.startswith("Error: ")
