"""A home on a simulated disk with a family of threads in it, for the tests of keeping."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

from clew.clock import SystemClock
from clew.errors import Owner
from clew.ids import SystemIds
from clew.rollout import FailPoints, Home
from clew.store import LocalStore
from clew.store.keeper import Keeper
from clew.testing import MemoryFileSystem, ThreadBuilder
from clew.testing.store_bench import fresh

CODEX, CLEW = Path("/home/codex"), Path("/home/clew")
ME = Owner("clew test")


@contextmanager
def opened(fs: MemoryFileSystem, fail: FailPoints | None = None) -> Generator[LocalStore]:
    clock = SystemClock()
    store = LocalStore(fs, CODEX, CLEW, clock=clock, ids=SystemIds(clock), owner=ME, fail=fail)
    with closing(store):
        yield store


def keeper_of(fs: MemoryFileSystem, fail: FailPoints | None = None) -> Keeper:
    with opened(fs, fail) as store:
        return store.keeper


class _Recorder(MemoryFileSystem):
    """Notes which of its steps change something."""

    def __init__(self) -> None:
        super().__init__()
        self.changing: list[int] = []

    def _call(self, operation: str) -> None:
        super()._call(operation)
        if operation in _CHANGES:
            self.changing.append(self.steps)


_CHANGES = {"write", "sync", "sync_folder", "rename", "replace", "link", "unlink", "make_folder", "set_mtime"}


def changing_steps(prepare: Callable[[Family], str], change: Callable[[Keeper, str], object]) -> list[int]:
    """The steps of a program at which `change` changes something, from 1: a kill at any other one is as good as one at
    the next of these. The last is one that never comes."""
    family = Family(_Recorder())
    told = prepare(family)
    assert isinstance(family.fs, _Recorder)
    before = family.fs.steps
    change(keeper_of(family.fs), told)
    return [*(step - before for step in family.fs.changing if step > before), 10**6]


@cache
def _threads() -> tuple[ThreadBuilder, ...]:
    root = fresh(0).turn("First?", "One.").turn("Second?", "Two.").revert(1).turn("Better?", "OK.")
    child = fresh(1, meta={"parent_thread_id": root.id}).turn("Do it.", "Done.")
    grandchild = fresh(2, "0.142", meta={"parent_thread_id": child.id}).turn("Do it.", "Done.")
    return root, child, grandchild, root.fork(before=1).turn("Otherwise?", "So."), fresh(9).turn("Alone?", "Yes.")


class Family:
    """`root` spawned `child` (archived) which spawned `grandchild` (compressed); `other` is alone; `fork`, not written
    yet, reads lines of `root`."""

    def __init__(self, fs: MemoryFileSystem | None = None) -> None:
        self.fs = fs or MemoryFileSystem()
        self.home = Home(self.fs, CODEX)
        self.root, self.child, self.grandchild, self.fork, self.other = _threads()
        self.root.write(self.home)
        self.child.write(self.home, archived=True)
        self.grandchild.write(self.home, compressed=True)
        self.other.write(self.home)

    def files(self) -> dict[str, tuple[bytes, int]]:
        """Every rollout of the home with its content and time."""
        return {
            str(file.path): (self.fs.read_bytes(file.path), file.mtime_ns)
            for thread in self.home.threads()
            for file in (*thread.segments, *thread.doubles)
        }
