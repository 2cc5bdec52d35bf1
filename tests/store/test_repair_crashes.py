"""A crash, a failing or a full disk at every step of a repair: each file is whole, the old one or the new one."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from repair_cases import CASES, Case

from clew.clock import SystemClock
from clew.errors import ClewError, Owner
from clew.rollout import FailPoints, FileSystem, Home
from clew.rollout.failpoints import FAIL_POINTS
from clew.store.checking import Checker
from clew.store.repair import Repairs
from clew.testing import MemoryFileSystem, memory_home

CLEW = Path("/clew")
MULTIPLE = {"split-foreign-tail", "drop-stale-locks"}
"""Surgeries on more than one file."""

Files = dict[str, bytes]


class PowerLost(BaseException):
    """Nothing can tidy up after this."""


def _prepared(name: str) -> tuple[MemoryFileSystem, Home, Case]:
    fs = MemoryFileSystem()
    home = memory_home(fs)
    return fs, home, CASES[name](home, CLEW)


def _repairs(home: Home, fail: FailPoints | None = None) -> Repairs:
    return Repairs(home.fs, home.path, CLEW, clock=SystemClock(), owner=Owner("test"), fail=fail)


def _walk(fs: FileSystem, folder: Path) -> Iterator[Path]:
    for entry in fs.scan(folder):
        if entry.is_dir:
            yield from _walk(fs, folder / entry.name)
        else:
            yield folder / entry.name


def _files(fs: MemoryFileSystem) -> Files:
    """What counts: everything but backups, locks that were taken, and temporary files."""
    return {
        str(path): fs.read_bytes(path)
        for path in _walk(fs, Path("/"))
        if not str(path).startswith("/clew/backups")
        and path.suffix != ".tmp"
        and path.name not in (".coordination.lock", "session_index.jsonl.lock")
    }


def _own_locks(case: Case, files: Files) -> Files:
    """Without what a killed repair leaves of its own locks."""
    if case.repair == "drop-stale-locks":
        return files
    return {path: data for path, data in files.items() if not path.endswith((".lock", ".json"))}


def _steps(name: str) -> list[tuple[str, int]]:
    """Every step of a surgery: the fail point and which hit of it."""
    fs, home, case = _prepared(name)
    fail = FailPoints()
    _repairs(home, fail).apply(case.repair, case.thread_id)
    assert fs.calls["replace"] > 0
    assert set(fail.hits) <= FAIL_POINTS
    return [(point, hit) for point, count in sorted(fail.hits.items()) for hit in range(1, count + 1)]


def _outcomes(name: str) -> tuple[Files, Files]:
    """The files before and after the surgery."""
    fs, home, case = _prepared(name)
    before = _files(fs)
    _repairs(home).apply(case.repair, case.thread_id)
    return before, _files(fs)


def _broken_off(
    name: str, act: Callable[[MemoryFileSystem], None]
) -> Iterator[tuple[str, MemoryFileSystem, Home, Case]]:
    """The surgery, with something happening at each of its steps in turn."""
    for point, hit in _steps(name):
        fs, home, case = _prepared(name)
        fail = FailPoints()

        def once(fs: MemoryFileSystem = fs, fail: FailPoints = fail, point: str = point) -> None:
            fail.off(point)
            act(fs)

        fail.on(point, once, at=hit)
        try:
            _repairs(home, fail).apply(case.repair, case.thread_id)
        except (PowerLost, ClewError, OSError):
            pass
        else:
            raise AssertionError(f"{point} {hit} was passed over")
        yield f"{point} {hit}", fs, home, case


@pytest.mark.parametrize("seed", [None, 1, 2])
@pytest.mark.parametrize("name", CASES)
def test_power_loss_leaves_each_file_old_or_new_and_all_can_be_put_back(name: str, seed: int | None) -> None:
    before, after = _outcomes(name)

    def lose_power(fs: MemoryFileSystem) -> None:
        fs.crash(seed)
        raise PowerLost

    for step, fs, home, case in _broken_off(name, lose_power):
        left = _own_locks(case, _files(fs))
        for path in before.keys() | after.keys() | left.keys():
            assert left.get(path) in (before.get(path), after.get(path)), (step, path)
        if name not in MULTIPLE:
            assert left in (before, after), step
        surgeon = _repairs(home)
        for backup in surgeon.backups():
            if backup.state == "started":
                codes = {each.code for each in Checker(home, CLEW, clock=SystemClock()).home()}
                assert "repair-unfinished" in codes, step
                surgeon.undo(backup.stamp)
                assert _own_locks(case, _files(fs)) == before, step
        # And the next try succeeds.
        if case.repair != "drop-stale-locks":
            surgeon.apply(case.repair, case.thread_id)
            assert _own_locks(case, _files(fs)) == after, step


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("name", CASES)
def test_a_failing_disk_leaves_everything_as_it_was(name: str, error: int) -> None:
    before, after = _outcomes(name)

    def refuse(fs: MemoryFileSystem) -> None:
        raise OSError(error, "refused")

    for step, fs, _, case in _broken_off(name, refuse):
        left = _own_locks(case, _files(fs))
        # The manifest alone may fail once all is done.
        assert left in (before, after), step
        assert [path for path in _walk(fs, Path("/")) if ".repair." in path.name] == [], step


@pytest.mark.parametrize("seed", [None, 3])
@pytest.mark.parametrize("name", CASES)
def test_power_loss_while_undoing_leaves_each_file_old_or_new(name: str, seed: int | None) -> None:
    before, after = _outcomes(name)
    fs, home, case = _prepared(name)
    stamp = _repairs(home).apply(case.repair, case.thread_id).stamp
    fail = FailPoints()
    _repairs(home, fail).undo(str(stamp))
    for point, count in sorted(fail.hits.items()):
        for hit in range(1, count + 1):
            fs, home, case = _prepared(name)
            stamp = _repairs(home).apply(case.repair, case.thread_id).stamp

            def lose_power(fs: MemoryFileSystem = fs) -> None:
                fs.crash(seed)
                raise PowerLost

            fail = FailPoints()
            fail.on(point, lose_power, at=hit)
            with pytest.raises((PowerLost, OSError)):
                _repairs(home, fail).undo(str(stamp))
            fail.off(point)
            left = _own_locks(case, _files(fs))
            for path in before.keys() | after.keys() | left.keys():
                assert left.get(path) in (before.get(path), after.get(path)), (point, hit, path)
            _repairs(home).undo(str(stamp))
            assert _own_locks(case, _files(fs)) == before, (point, hit)
