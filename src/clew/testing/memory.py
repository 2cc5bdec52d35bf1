"""A store that lives in memory: the real one, over the simulated disk. Public, and quick enough for any test.

with closing(memory_store()) as store:
    async with store.lease(thread_id, Owner("me"), create=True) as lease: ...
    store.catalog.list(ListQuery())
"""

from __future__ import annotations

import os
from pathlib import Path

from clew.clock import Clock, SystemClock
from clew.errors import Owner
from clew.ids import IdSource, SystemIds
from clew.rollout.failpoints import FailPoints
from clew.rollout.layout import Home
from clew.store.local import LocalStore
from clew.testing.disk import MemoryFileSystem

__all__ = ["memory_home", "memory_store"]

_CODEX_HOME, _CLEW_HOME = Path("/memory/codex"), Path("/memory/clew")


def memory_home(fs: MemoryFileSystem) -> Home:
    """Where the stores on this disk keep their threads: for builders, which write recorded ones there."""
    fs.make_folder(_CODEX_HOME)
    return Home(fs, _CODEX_HOME)


def memory_store(
    fs: MemoryFileSystem | None = None,
    *,
    clock: Clock | None = None,
    ids: IdSource | None = None,
    owner: Owner | None = None,
    fail: FailPoints | None = None,
) -> LocalStore:
    """A store on a disk in memory, its catalog in `catalog`; `close` it in the end.

    Two stores on one disk see each other as two programs would. A store does not survive a `crash` of its disk: make
    another one.
    """
    clock = clock or SystemClock()
    home = memory_home(fs or MemoryFileSystem())
    return LocalStore(
        home.fs,
        home.path,
        _CLEW_HOME,
        clock=clock,
        ids=ids or SystemIds(clock),
        owner=owner or Owner("memory", os.getpid()),
        fail=fail,
    )
