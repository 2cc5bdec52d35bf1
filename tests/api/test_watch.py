"""Watching a home in which other programs write."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import pytest

import clew
from clew.clock import SystemClock
from clew.rollout import Home, NameIndex, RealFileSystem
from clew.testing import ThreadBuilder

pytestmark = pytest.mark.anyio

Words = dict[str, Any]
LINE = b'{"timestamp":"2026-07-02T12:00:00.000Z","type":"event_msg","payload":{"type":"%s","turn_id":"t"}}\n'


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(RealFileSystem(), tmp_path / "codex")


async def following(changes: AsyncIterator[clew.Change]) -> clew.Change:
    with anyio.fail_after(10):
        return await anext(changes)


@pytest.mark.parametrize("poll", [False, True])
@pytest.mark.parametrize("there", [False, True])
async def test_what_another_program_does_is_told(poll: bool, there: bool, home: Home, words: Words) -> None:
    if there:
        ThreadBuilder("0.142", seed=9).turn("Old?", "Old.").write(home)
    async with clew.open(**words) as threads, threads.watch(interval=0.05, poll=poll) as changes:
        thread = ThreadBuilder("0.142").turn("First?", "One.")
        path = thread.write(home)
        assert await following(changes) == clew.ThreadAppeared(thread.id)
        grew = await following(changes)
        assert isinstance(grew, clew.ThreadGrew)
        while not grew.turns_ended:  # it may be seen in several pieces
            grew = await following(changes)
            assert isinstance(grew, clew.ThreadGrew)
        with path.open("ab") as log:
            log.write(LINE % b"task_started")
        assert await following(changes) == clew.ThreadGrew(thread.id, 1, ("t",))
        NameIndex(home).rename(thread.id, "parser", SystemClock())
        assert await following(changes) == clew.ThreadRenamed(thread.id, "parser")
        home.archived_sessions.mkdir()
        moved = path.rename(home.archived_sessions / path.name)
        assert await following(changes) == clew.ThreadMoved(thread.id, archived=True)
        moved.unlink()
        assert await following(changes) == clew.ThreadGone(thread.id)


async def test_a_slow_reader_misses_nothing(home: Home, words: Words) -> None:
    async with clew.open(**words) as threads, threads.watch(interval=0.05) as changes:
        builders = [ThreadBuilder("0.142", seed=number).turn("Hm?", "Yes.") for number in range(20)]
        for builder in builders:
            builder.write(home)
        left = {builder.id for builder in builders}
        while left:
            change = await following(changes)
            if isinstance(change, clew.ThreadAppeared):
                left.remove(change.thread_id)


async def test_a_watch_that_the_system_refuses_looks_by_itself(
    home: Home, words: Words, monkeypatch: pytest.MonkeyPatch
) -> None:
    import watchfiles

    def refused(*_: object, **__: object) -> object:
        raise OSError("no space left for watches")

    monkeypatch.setattr(watchfiles, "awatch", refused)
    home.sessions.mkdir(parents=True)
    async with clew.open(**words) as threads, threads.watch(interval=0.02) as changes:
        thread = ThreadBuilder("0.142").turn("First?", "One.")
        thread.write(home)
        assert await following(changes) == clew.ThreadAppeared(thread.id)


async def test_two_watch_at_once_and_one_that_ends_harms_no_other(home: Home, words: Words) -> None:
    async with clew.open(**words) as threads, threads.watch(interval=0.05) as one:
        thread = ThreadBuilder("0.142").turn("First?", "One.")
        async with threads.watch(interval=0.05) as other:
            thread.write(home)
            assert await following(other) == clew.ThreadAppeared(thread.id)
        assert await following(one) == clew.ThreadAppeared(thread.id)
