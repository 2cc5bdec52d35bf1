"""Watching a home: changes as they happen, by the operating system's notices where there are some, else by looking."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Collection
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from clew.store.changes import Change, HomeChanges

__all__ = ["watch_home"]

_TOGETHER = 100
"""Milliseconds in which changes that follow each other are told together."""
_SWEEP = 60.0
"""Seconds after which everything is looked at, notices or not: some file systems keep some of them."""


@asynccontextmanager
async def watch_home(
    changes: HomeChanges, *, interval: float = 1.0, poll: bool = False
) -> AsyncGenerator[AsyncIterator[Change]]:
    """What happens to the threads of a home from the moment this is entered, in order for each thread.

    A slow reader misses nothing and holds up nothing: what happens meanwhile to one thread is told together. Names, and
    everything where there are no notices (or with `poll`, for network disks), are looked at every `interval` seconds.
    """
    await anyio.to_thread.run_sync(changes.begin)
    async with aclosing(_changes(changes, interval, poll)) as told:
        yield told


async def _changes(changes: HomeChanges, interval: float, poll: bool) -> AsyncGenerator[Change]:
    async with aclosing(_wakes(changes, interval, poll)) as wakes:
        async for touched in wakes:
            for change in await anyio.to_thread.run_sync(changes.look, touched):
                yield change


async def _wakes(changes: HomeChanges, interval: float, poll: bool) -> AsyncGenerator[Collection[str] | None]:
    """The names of files that may have changed, again and again; None where nobody knows which."""
    while True:
        folders = changes.folders
        if folders and not poll:
            try:
                async with aclosing(_notices(changes, folders, interval)) as notices:
                    async for touched in notices:
                        yield touched
                continue
            except (OSError, RuntimeError):
                poll = True  # too many watches, or a file system without notices
        yield None
        await anyio.sleep(interval)


async def _notices(
    changes: HomeChanges, folders: tuple[Path, ...], interval: float
) -> AsyncGenerator[Collection[str] | None]:
    """Notices about these folders; ends when there are others."""
    from watchfiles import awatch  # pyright: ignore[reportUnknownVariableType] - one of its parameters is a trio event

    watcher = awatch(
        *folders,
        watch_filter=None,
        debounce=_TOGETHER,
        step=_TOGETHER // 2,
        rust_timeout=max(1, int(interval * 1000)),
        yield_on_timeout=True,
    )
    # What happened before the watcher was there it does not know of.
    swept: float | None = None
    async with aclosing(watcher) as found:
        async for paths in found:
            now = anyio.current_time()
            if swept is None or now - swept >= _SWEEP:
                swept = now
                yield None
            else:
                yield {Path(path).name for _, path in paths}
            if await anyio.to_thread.run_sync(lambda: changes.folders) != folders:
                return
