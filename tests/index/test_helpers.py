"""Helpers give what is digested here, also when they end in the middle of it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from indexed import database, work

from clew.index.digestion import Digester, LocalDigester, Work
from clew.index.helpers import Helper, start_helpers
from clew.index.ingest import ingest
from clew.index.sql import rows
from clew.rollout import Home, RealFileSystem
from clew.testing.builders import ThreadBuilder

COUNT = 6


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(RealFileSystem(), tmp_path / "codex")
    for number in range(COUNT):
        built = ThreadBuilder("0.169" if number % 2 else "0.29", seed=number)
        built.turn(f"Question {number}?", f"Answer {number}.").write(home, compressed=number == 3)
    return home


@pytest.fixture
def helper() -> Iterator[Helper]:
    helper = Helper()
    yield helper
    helper.close()


def _taken(home: Home, digester: Digester) -> list[tuple[Any, ...]]:
    connection = database()
    report = ingest(connection, [digester], work(connection, home))
    assert (report.files, report.failed) == (COUNT, [])
    return list(
        rows(connection, "SELECT f.path, f.digest, d.* FROM files f JOIN docs d ON d.file = f.id ORDER BY d.id")
    )


def test_a_helper_digests_as_it_is_done_here(home: Home, helper: Helper) -> None:
    assert helper.pid is not None
    assert _taken(home, helper) == _taken(home, LocalDigester(home.fs))


def test_a_helper_goes_on_where_it_stopped(home: Home, helper: Helper) -> None:
    connection = database()
    ingest(connection, [helper], work(connection, home))
    report = ingest(connection, [helper], work(connection, home))
    assert (report.files, report.changed, report.bytes) == (COUNT, 0, 0)


def test_a_file_that_is_gone_is_told(home: Home, helper: Helper) -> None:
    todo = work(database(), home)
    todo[2].file.path.unlink()
    (batch,) = helper.batches(todo)
    assert [failed.work for failed in batch.failed] == [2]
    assert [piece.work for piece in batch.pieces] == [0, 1, 3, 4, 5]


def test_what_a_killed_helper_did_not_do_is_done_here(home: Home) -> None:
    helper = Helper()
    expected = _taken(home, LocalDigester(home.fs))
    assert helper.pid is not None
    os.kill(helper.pid, signal.SIGKILL)
    assert _taken(home, helper) == expected
    assert helper.pid is None


@pytest.mark.parametrize("program", ["/usr/bin/uwsgi", "/opt/app/app", ""])
def test_a_program_with_python_in_it_is_not_started_again(program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", program)
    (digester,) = start_helpers()
    assert isinstance(digester, LocalDigester)


def test_there_is_a_helper_for_every_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    helpers = start_helpers()
    try:
        assert [isinstance(one, Helper) for one in helpers] == [True, True]
    finally:
        for one in helpers:
            one.close()


def test_where_no_process_starts_it_is_done_here(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nonexistent/python")
    helper = Helper()
    assert helper.pid is None
    assert _taken(home, helper) == _taken(home, LocalDigester(home.fs))


def test_what_a_helper_answered_before_it_ended_is_not_done_again(home: Home) -> None:
    todo: list[Work] = work(database(), home)
    batches = LocalDigester(home.fs).batches(todo, without={0, 2})
    assert [piece.work for batch in batches for piece in batch.pieces] == [1, 3, 4, 5]
