"""What the reader does at the limits. Times and memory are bounds that a broken program exceeds, not measurements."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clew.cli.inspect import inspect_thread
from clew.rollout import Home, MemorySource, Record, Skipped, scan_back, scan_forward
from clew.testing.builders import ThreadBuilder
from clew.testing.disk import MemoryFileSystem

LONGER = "longer than 268435456 bytes"


def run(name: str, folder: Path, *, seconds: float, megabytes: float) -> dict[str, Any]:
    """Read a home at a limit in a process of its own, within bounds."""
    script = Path(__file__).with_name("limit_cases.py")
    done = subprocess.run([sys.executable, str(script), name, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout)
    assert told.pop("peak") <= megabytes
    assert told.pop("seconds") <= seconds
    return told


# -- single lines


def told_of(payload: bytes) -> list[Record | Skipped]:
    """What is read of a line with this payload, between two others, the same in both directions."""
    good = b'{"timestamp":"t","type":"event_msg","payload":{"n":%d}}\n'
    data = good % 1 + b'{"timestamp":"t","type":"event_msg","payload":' + payload + b"}\n" + good % 2
    forward, backward = list(scan_forward(MemorySource(data))), list(scan_back(MemorySource(data)))
    assert [(type(line), line.start) for line in forward] == [(type(line), line.start) for line in reversed(backward)]
    first, *middle, last = forward
    assert isinstance(first, Record)
    assert isinstance(last, Record)
    assert (bytes(first.payload), bytes(last.payload)) == (b'{"n":1}', b'{"n":2}')
    return middle


def test_a_hundred_thousand_levels_cost_their_line() -> None:
    for opening, closing in ((b"[", b"]"), (b'{"a":', b"}")):
        (line,) = told_of(opening * 100_000 + b"1" + closing * 100_000)
        assert isinstance(line, Skipped)
        assert "nested" in line.why or "recursion" in line.why


@pytest.mark.parametrize("number", [b"1e999", b"-1e999", b"1" * 4000, b"0." + b"1" * 4000, b"1E-99999"])
def test_huge_numbers_are_read(number: bytes) -> None:
    (line,) = told_of(b'{"type":"token_count","info":{"n":' + number + b"}}")
    assert isinstance(line, Record)


@pytest.mark.parametrize("number", [b"1e999", b"99999999999999999999999", b"-5", b"1.5", b'"7"', b"NaN"])
def test_an_ordinal_that_is_none_does_not_cost_the_line(number: bytes) -> None:
    data = b'{"timestamp":"t","ordinal":' + number + b',"type":"event_msg","payload":{}}'
    (line,) = scan_forward(MemorySource(data))
    assert isinstance(line, Record)


@pytest.mark.parametrize("half", [b"\\ud800", b"\\uDFFF", b"\\udc00\\ud800", b"\\ud800\\n", b"\\\\\\ud9ab"])
def test_half_surrogate_pairs_are_read(half: bytes) -> None:
    (line,) = told_of(b'{"type":"user_message","message":"a' + half + b'"}')
    assert isinstance(line, Record)
    assert json.loads(bytes(line.payload))["message"].encode().endswith((b"\xef\xbf\xbd", b"\xef\xbf\xbd\n"))


@pytest.mark.parametrize("zeros", [1, 511, 512, 5000, 1 << 20])
def test_zero_bytes_between_lines_cost_nothing_else(zeros: int) -> None:
    home = Home(MemoryFileSystem(), Path("/home/codex"))
    thread = ThreadBuilder("0.142").turn("First?", "One.").raw(bytes(zeros) + b"\n").turn("Second?", "Two.")
    thread.write(home)
    files = home.find(thread.id)
    assert files is not None
    line = inspect_thread(home, files)
    assert [turn["status"] for turn in line["turns"]] == ["completed", "completed"]
    assert [skipped["why"] for skipped in line["skipped"]] == ["only zero bytes"]


# -- whole homes


def test_a_circle_of_forks_ends(tmp_path: Path) -> None:
    told = run("cycle", tmp_path, seconds=5, megabytes=50)
    assert told["forward"]["read"] == told["backward"]["read"] == 3
    assert "leads back to itself" in told["forward"]["skipped"][-1]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_line_of_a_gigabyte_is_not_held_and_its_neighbours_are_read(tmp_path: Path) -> None:
    told = run("gigabyte_line", tmp_path, seconds=60, megabytes=400)
    assert told["forward"] == told["backward"] == {"read": 3, "skipped": [LONGER]}
    assert told["items"] == 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_file_that_unpacks_to_a_hundred_gigabytes_is_cut_off(tmp_path: Path) -> None:
    told = run("bomb", tmp_path, seconds=300, megabytes=500)
    for direction in ("forward", "backward"):
        assert told[direction]["read"] == 2
        assert any("unpacks to more than" in why for why in told[direction]["skipped"])


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["forks", "segments"])
def test_a_chain_of_a_hundred_thousand_files_is_read_to_its_end(kind: str, tmp_path: Path) -> None:
    told = run(kind, tmp_path, seconds=300, megabytes=800)
    assert told["forward"] == told["backward"] == {"read": 100_001, "skipped": []}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_million_short_lines_are_read(tmp_path: Path) -> None:
    told = run("million_lines", tmp_path, seconds=200, megabytes=2000)
    assert told == {"items": 250_000, "turns": 250_000}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_million_ends_of_nothing_are_read(tmp_path: Path) -> None:
    told = run("million_odd_lines", tmp_path, seconds=300, megabytes=2500)
    assert told["turns"] > 400_000


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_half_a_gigabyte_is_read_with_little_memory(tmp_path: Path) -> None:
    told = run("large", tmp_path, seconds=120, megabytes=150)
    assert told["items"] > 100
    assert told["read"] > 200_000
    assert told["context"] <= 60
    assert told["page"] <= 1


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_one_file_among_a_hundred_thousand_is_found_quickly(tmp_path: Path) -> None:
    told = run("crowded", tmp_path, seconds=10, megabytes=150)
    assert told == {"read": 2, "skipped": []}
