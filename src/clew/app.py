"""The composition root: the one place that knows which implementation stands behind each contract."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from clew.clock import Clock, SystemClock
from clew.config import OFFLINE, Config
from clew.errors import Owner
from clew.ids import IdSource, SystemIds
from clew.library import Library
from clew.release import VERSION
from clew.rollout import FailPoints, FileSystem, RealFileSystem
from clew.store import LocalStore
from clew.store.local import IndexUse
from clew.store.relocations import Relocations

if TYPE_CHECKING:
    from clew.agent.model import ModelClient
    from clew.store.changes import Change
    from clew.threads import Threads

__all__ = ["open_library", "open_threads", "watch_threads"]


class _Parts:
    """What stands behind a library: the store, what folders became, and whose it is."""

    def __init__(
        self,
        config: Config,
        env: Mapping[str, str],
        *,
        program: str,
        fs: FileSystem | None,
        clock: Clock | None,
        ids: IdSource | None,
        fail: FailPoints | None,
        notify: Callable[[str], None] | None,
        leave_index: Callable[[], None] | None,
    ) -> None:
        self.clock = clock or SystemClock()
        self.ids = ids or SystemIds(self.clock)
        self.owner = Owner(program=program, pid=os.getpid(), host=socket.gethostname())
        self._leave_index = leave_index if config.server.index_background else None
        disk = fs or RealFileSystem()
        self.store = LocalStore(
            disk,
            config.codex_home,
            config.clew_home,
            clock=self.clock,
            ids=self.ids,
            owner=self.owner,
            fail=fail or FailPoints(),
            ripgrep=partial(_ripgrep, env),
            index=_index_use(config, fs, leave_index),
            notify=notify,
        )
        self.folders = Relocations(
            disk,
            config.clew_home,
            clock=self.clock,
            by=program,
            fail=fail,
            closed=("/", *filter(None, (env.get("HOME"),))),
        )

    def close(self) -> None:
        left = self._leave_index is not None and self.store.index_waits()
        self.store.close()
        if self._leave_index is not None and left:
            self._leave_index()


@asynccontextmanager
async def open_library(
    config: Config,
    env: Mapping[str, str],
    *,
    program: str = "clew",
    notify: Callable[[str], None] | None = None,
    leave_index: Callable[[], None] | None = None,
) -> AsyncGenerator[Library]:
    """The recorded threads of the configured homes, for whoever runs no turn: without an agent, which takes longest to
    load. The arguments are those of `open_threads`."""
    parts = _Parts(
        config, env, program=program, fs=None, clock=None, ids=None, fail=None, notify=notify, leave_index=leave_index
    )
    try:
        yield Library(
            parts.store,
            parts.store.catalog,
            owner=parts.owner,
            clock=parts.clock,
            ids=parts.ids,
            version=VERSION,
            folders=parts.folders,
            ledger=lambda: parts.store.ledger,
            keeper=parts.store.keeper,
            places=parts.store.turn_places,
            index=parts.store.index_statistics,
        )
    finally:
        parts.close()


@asynccontextmanager
async def open_threads(
    config: Config,
    env: Mapping[str, str],
    *,
    program: str = "clew",
    reload: Callable[[], Config] | None = None,
    clients: Mapping[str, ModelClient] | None = None,
    fs: FileSystem | None = None,
    clock: Clock | None = None,
    ids: IdSource | None = None,
    fail: FailPoints | None = None,
    notify: Callable[[str], None] | None = None,
    leave_index: Callable[[], None] | None = None,
) -> AsyncGenerator[Threads]:
    """The threads of the configured homes, with clew's own agent behind them; closes everything on exit.

    `env` is what commands inherit and where API keys are looked up. `program` names this process to others that find
    a thread held (`clew mcp`, `clew exec`). `reload` reads the configuration anew, for processes that outlive a change
    of it. `notify` is told what a person should know of the index of threads. It is brought up to date by a thread of
    this process, unless `leave_index` is given: short-lived processes are called back on exit when something is left to
    do.
    The rest stands in for the real parts in tests.
    """
    from clew.agent import Agent
    from clew.agent.model import Models, preload
    from clew.threads import Threads

    parts = _Parts(
        config,
        env,
        program=program,
        fs=fs,
        clock=clock,
        ids=ids,
        fail=fail,
        notify=notify,
        leave_index=leave_index,
    )
    store = parts.store
    models = Models(env, clients if clients is not None else {OFFLINE: _offline_model()})
    agent = Agent(config, models, env=env, clock=parts.clock, ids=parts.ids, reload=reload)
    if config.model_provider != OFFLINE:
        # The HTTP library takes longest to load; by the time the first request goes out it should be there.
        threading.Thread(target=preload, name="clew-preload", daemon=True).start()
    try:
        async with Threads(
            store,
            store.catalog,
            agent,
            owner=parts.owner,
            clock=parts.clock,
            ids=parts.ids,
            version=VERSION,
            busy_wait=config.server.busy_wait_seconds,
            folders=parts.folders,
            ledger=lambda: store.ledger,
            keeper=store.keeper,
            places=store.turn_places,
            index=store.index_statistics,
        ) as threads:
            yield threads
    finally:
        await models.close()
        parts.close()


def _ripgrep(env: Mapping[str, str]) -> Path | None:
    from clew.store.search import find_ripgrep  # takes a while to load

    return find_ripgrep(env)


def _index_use(config: Config, fs: FileSystem | None, leave_index: Callable[[], None] | None) -> IndexUse:
    if not isinstance(fs or RealFileSystem(), RealFileSystem):
        return "off"  # what lies on another disk is another home, whatever its path
    return "use" if leave_index is not None or not config.server.index_background else "keep"


def watch_threads(
    config: Config, *, interval: float = 1.0, poll: bool = False, fs: FileSystem | None = None
) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
    """What happens to the threads of the configured home, see `clew.watching`."""
    from clew.store.changes import HomeChanges
    from clew.watching import watch_home

    return watch_home(HomeChanges(fs or RealFileSystem(), config.codex_home), interval=interval, poll=poll)


def _offline_model() -> ModelClient:
    # Shipped for newcomers and tests alike; imported only where somebody may use it.
    from clew.testing.offline import OfflineModel

    return OfflineModel()
