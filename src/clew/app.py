"""The composition root: the one place that knows which implementation stands behind each contract."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version

from clew.agent import Agent
from clew.agent.model import ModelClient, Models, preload
from clew.clock import Clock, SystemClock
from clew.config import OFFLINE, Config
from clew.errors import Owner
from clew.ids import IdSource, SystemIds
from clew.rollout import FailPoints, FileSystem, RealFileSystem
from clew.store import LocalStore
from clew.store.changes import Change, HomeChanges
from clew.store.local import IndexUse
from clew.store.relocations import Relocations
from clew.store.search import find_ripgrep
from clew.threads import Threads
from clew.watching import watch_home

__all__ = ["open_threads", "watch_threads"]


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
    clock = clock or SystemClock()
    ids = ids or SystemIds(clock)
    known = version("clew")
    owner = Owner(program=program, pid=os.getpid(), host=socket.gethostname())
    store = LocalStore(
        fs or RealFileSystem(),
        config.codex_home,
        config.clew_home,
        clock=clock,
        ids=ids,
        owner=owner,
        fail=fail or FailPoints(),
        ripgrep=find_ripgrep(env),
        index=_index_use(config, fs, leave_index),
        notify=notify,
    )
    folders = Relocations(
        fs or RealFileSystem(),
        config.clew_home,
        clock=clock,
        by=program,
        fail=fail,
        closed=("/", *filter(None, (env.get("HOME"),))),
    )
    models = Models(env, clients if clients is not None else {OFFLINE: _offline_model()})
    agent = Agent(config, models, env=env, clock=clock, ids=ids, reload=reload)
    if config.model_provider != OFFLINE:
        # The HTTP library takes longest to load; by the time the first request goes out it should be there.
        threading.Thread(target=preload, name="clew-preload", daemon=True).start()
    try:
        async with Threads(
            store,
            store.catalog,
            agent,
            owner=owner,
            clock=clock,
            ids=ids,
            version=known,
            busy_wait=config.server.busy_wait_seconds,
            folders=folders,
            ledger=store.ledger,
            keeper=store.keeper,
        ) as threads:
            yield threads
    finally:
        await models.close()
        left = leave_index is not None and config.server.index_background and store.index_waits()
        store.close()
        if leave_index is not None and left:
            leave_index()


def _index_use(config: Config, fs: FileSystem | None, leave_index: Callable[[], None] | None) -> IndexUse:
    if not isinstance(fs or RealFileSystem(), RealFileSystem):
        return "off"  # what lies on another disk is another home, whatever its path
    return "use" if leave_index is not None or not config.server.index_background else "keep"


def watch_threads(
    config: Config, *, interval: float = 1.0, poll: bool = False, fs: FileSystem | None = None
) -> AbstractAsyncContextManager[AsyncIterator[Change]]:
    """What happens to the threads of the configured home, see `clew.watching`."""
    return watch_home(HomeChanges(fs or RealFileSystem(), config.codex_home), interval=interval, poll=poll)


def _offline_model() -> ModelClient:
    # Shipped for newcomers and tests alike; imported only where somebody may use it.
    from clew.testing.offline import OfflineModel

    return OfflineModel()
