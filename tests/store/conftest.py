"""What the tests of stores share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from clew.clock import SystemClock
from clew.errors import Owner
from clew.ids import SystemIds
from clew.rollout import Home, RealFileSystem
from clew.store import LocalStore
from clew.store.index_worker import IndexWorker
from clew.store.local import IndexUse
from clew.testing import MemoryFileSystem, StoreUnderTest, ThreadBuilder, memory_home, memory_store


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def under_test(home: Home, clew_home: Path, closed: ExitStack, index: IndexUse = "off") -> StoreUnderTest:
    if isinstance(home.fs, MemoryFileSystem):
        store = memory_store(home.fs)
    else:
        clock = SystemClock()
        owner = Owner("clew test")
        store = LocalStore(home.fs, home.path, clew_home, clock=clock, ids=SystemIds(clock), owner=owner, index=index)
    closed.enter_context(closing(store))

    def seed(thread: ThreadBuilder, *, archived: bool = False, compressed: bool = False) -> None:
        thread.write(home, archived=archived, compressed=compressed)

    return StoreUnderTest(
        logs=store,
        catalog=store.catalog,
        seed=seed,
        again=lambda: under_test(home, clew_home, closed, index),
        home=home,
        shelf=store.shelf,
    )


@pytest.fixture(params=["disk", "memory", "indexed"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StoreUnderTest]:
    """An empty store: in files, in memory, or in files with a complete index of the empty home."""
    home = memory_home(MemoryFileSystem()) if request.param == "memory" else Home(RealFileSystem(), tmp_path / "codex")
    with ExitStack() as closed:
        if request.param == "indexed":
            assert IndexWorker(home, tmp_path / "clew").run().complete
        yield under_test(home, tmp_path / "clew", closed, "use" if request.param == "indexed" else "off")
