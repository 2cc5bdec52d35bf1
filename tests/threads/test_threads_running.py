"""Turns through the front door: their order, their results, their ends."""

from __future__ import annotations

import shutil
from pathlib import Path

import anyio
import pytest
from thread_bench import Front, front

from clew.errors import DiskFull, FolderGone, KeyMissing, ProviderUnknown, ThreadBusy, ThreadNotFound
from clew.events import Event, TextDelta, TurnEnded, TurnResult, TurnStarted
from clew.store import ListQuery
from clew.testing import MemoryFileSystem
from clew.turn import Turn

pytestmark = pytest.mark.anyio


async def test_turns_of_a_thread_run_one_after_the_other_in_order(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        thread = await one.start()
        asked = [one.run(thread, f"prompt {number}") for number in range(10)]
        results = [await turn.wait() for turn in reversed(asked)]
        assert [result.last_message for result in reversed(results)] == [f"re: prompt {number}" for number in range(10)]
        assert one.engine.ran == [f"prompt {number}" for number in range(10)]
        assert one.engine.most == 1
        expected = [text for number in range(10) for text in (f"prompt {number}", f"re: prompt {number}")]
        assert one.told(thread.id) == expected
        assert [result.turn_id for result in reversed(results)] == [turn.turn_id for turn in asked]
        for context in (one.engine.lives[-1].context,):
            assert [item.raw for item in context.items] == [
                item.raw
                for item in (await one.threads._load(thread.id)).items  # pyright: ignore[reportPrivateUsage]
            ]


async def test_ten_runs_at_once_get_each_their_own_result(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        threads = [await one.start() for _ in range(10)]
        results: dict[int, TurnResult] = {}

        async def ask(number: int) -> None:
            results[number] = await one.say(threads[number], f"wait {number}")

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(ask, number)
            for number in reversed(range(10)):
                await one.engine.at(str(number)).wait()
            assert one.engine.most == 10
            for number in (3, 1, 4, 0, 5, 9, 2, 6, 8, 7):
                one.engine.gate(str(number)).set()
        assert [(results[n].thread_id, results[n].last_message) for n in range(10)] == [
            (threads[n].id, f"re: wait {n}") for n in range(10)
        ]


async def test_many_runs_at_once_of_one_thread_get_each_their_own_result(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        thread = await one.start()
        results: dict[int, TurnResult] = {}

        async def ask(number: int) -> None:
            results[number] = await one.say(thread, str(number))

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(ask, number)
        assert [results[number].last_message for number in range(10)] == [f"re: {number}" for number in range(10)]
        assert sorted(one.engine.ran) == [str(number) for number in range(10)]


async def test_a_queued_turn_that_is_interrupted_never_starts(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        thread = await one.start()
        first, second, third = (one.run(thread, text) for text in ("wait a", "second", "third"))
        await one.engine.at("a").wait()
        second.interrupt()
        assert (first.state, second.state) == ("running", "queued")
        one.engine.gate("a").set()
        assert (await second.wait()).status == "interrupted"
        assert (await third.wait()).status == "completed"
        assert one.engine.ran == ["wait a", "third"]
        assert await events(second) == [TurnEnded(second.turn_id, await second.wait())]


async def test_a_running_turn_is_interrupted_and_the_next_one_runs(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        thread = await one.start()
        first, second = one.run(thread, "wait a"), one.run(thread, "second")
        await one.engine.at("a").wait()
        first.interrupt()
        assert (await first.wait()).status == "interrupted"
        assert (await second.wait()).status == "completed"
        page = await one.threads.read(thread.id)
        assert [turn.status for turn in page.turns] == ["interrupted", "completed"]


async def test_a_turn_that_waits_for_the_lease_is_interrupted(tmp_path: Path) -> None:
    fs = MemoryFileSystem()
    async with front(tmp_path, fs) as one, front(tmp_path, fs, "other") as two:
        thread = await one.start()
        await one.say(thread, "first")
        async with two.store.lease(thread.id, two.owner):
            waiting = one.run(thread, "second")
            await anyio.wait_all_tasks_blocked()
            waiting.interrupt()
            assert (await waiting.wait()).status == "interrupted"
        assert (await one.say(thread, "third")).status == "completed"
        assert one.engine.ran == ["first", "third"]


async def test_what_cannot_run_raises_and_the_queue_goes_on(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    async with front(project) as one:
        thread = await one.start()
        await one.say(thread, "first")
        shutil.rmtree(project)
        gone, also_gone = one.run(thread, "a"), one.run(thread, "b")
        for turn in (gone, also_gone):
            with pytest.raises(FolderGone) as told:
                await turn.wait()
            assert (told.value.cwd, told.value.thread_id) == (str(project), thread.id)
            assert (turn.state, turn.result, await events(turn)) == ("done", None, [])
        project.mkdir()
        assert (await one.say(thread, "second")).last_message == "re: second"
        assert one.told(thread.id) == ["first", "re: first", "second", "re: second"]


@pytest.mark.parametrize(("provider", "error"), [("unknown", ProviderUnknown), ("keyless", KeyMissing)])
async def test_a_provider_that_cannot_be_asked_leaves_nothing_behind(
    provider: str, error: type[Exception], tmp_path: Path
) -> None:
    async with front(tmp_path) as one:
        thread = await one.start(provider=provider)
        with pytest.raises(error):
            await one.say(thread, "first")
        assert (await one.threads.list(ListQuery(archived=None))).threads == ()
        with pytest.raises(ThreadNotFound):
            await one.threads.read(thread.id)
        assert one.engine.ran == []


async def test_a_thread_that_another_program_holds_is_busy(tmp_path: Path) -> None:
    fs = MemoryFileSystem()
    async with front(tmp_path, fs) as one:
        thread = await one.start()
        await one.say(thread, "first")
        file = fs.open_append(Path(f"/memory/codex/thread-writer-locks/{thread.id}.lock"))
        assert file.try_lock()
        with pytest.raises(ThreadBusy):
            await one.say(thread, "second")
        file.close()
        assert (await one.say(thread, "third")).status == "completed"
        assert one.engine.ran == ["first", "third"]


@pytest.mark.parametrize("free", [0, 300, 1500])
async def test_a_full_disk_raises_and_the_thread_goes_on_when_there_is_space(free: int, tmp_path: Path) -> None:
    fs = MemoryFileSystem()
    async with front(tmp_path, fs) as one:
        old, new = await one.start(), await one.start()
        await one.say(old, "first")
        for thread in (old, new):
            fs.free = free
            with pytest.raises(DiskFull):
                await one.say(thread, "x" * 1000)
            fs.free = None
            assert (await one.say(thread, "second")).last_message == "re: second"
            context = await one.threads._load(thread.id)  # pyright: ignore[reportPrivateUsage] - what is in memory
            assert [item.value()["content"][0]["text"] for item in context.items] == one.told(thread.id)
            assert one.told(thread.id)[-2:] == ["second", "re: second"]
        assert one.told(old.id)[:2] == ["first", "re: first"]


async def test_a_broken_engine_breaks_one_turn(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        thread = await one.start()
        broken, whole = one.run(thread, "raise"), one.run(thread, "second")
        with pytest.raises(RuntimeError, match="the engine broke"):
            await broken.wait()
        assert (await whole.wait()).last_message == "re: second"
        assert one.told(thread.id) == ["raise", "second", "re: second"]


async def events(turn: Turn) -> list[Event]:
    async with turn.events() as heard:
        return [event async for event in heard]


async def test_events_are_replayed_without_deltas_to_late_listeners(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        thread = await one.start()
        turn = one.run(thread, "deltas 3")
        early = await events(turn)
        late = await events(turn)
        kinds = [type(event) for event in early]
        assert kinds == [TurnStarted, TextDelta, TextDelta, TextDelta, TurnEnded]
        assert late == [event for event in early if not isinstance(event, TextDelta)]
        assert one.threads.turn(turn.turn_id) is turn


async def test_a_slow_listener_loses_deltas_and_nothing_else(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        thread = await one.start()
        turn = one.run(thread, "deltas 5000")
        async with turn.events() as heard:
            result = await turn.wait()  # nothing is taken before it is over
            got = [event async for event in heard]
        assert got[0] == TurnStarted(thread.id, turn.turn_id)
        assert got[-1] == TurnEnded(turn.turn_id, result)
        deltas = [event.text for event in got[1:-1] if isinstance(event, TextDelta)]
        assert 0 < len(deltas) < 5000
        assert deltas == [str(number) for number in range(len(deltas))]


async def test_a_listener_that_leaves_disturbs_nobody(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        thread = await one.start()
        turn = one.run(thread, "wait a")
        async with turn.events() as heard:
            async for event in heard:
                assert isinstance(event, TurnStarted)
                break
        one.engine.gate("a").set()
        assert (await turn.wait()).status == "completed"


async def test_leaving_interrupts_what_runs_and_records_it(tmp_path: Path) -> None:
    fs = MemoryFileSystem()
    async with front(tmp_path, fs) as one:
        thread = await one.start()
        running, waiting = one.run(thread, "wait a"), one.run(thread, "second")
        await one.engine.at("a").wait()
    assert ((await running.wait()).status, (await waiting.wait()).status) == ("interrupted", "interrupted")
    assert one.engine.closed
    async with front(tmp_path, fs) as again:
        assert [turn.status for turn in (await again.threads.read(thread.id)).turns] == ["interrupted"]
        assert again.store.holder(thread.id) is None


async def test_leaving_by_a_cancellation_records_it_as_well(tmp_path: Path) -> None:
    fs = MemoryFileSystem()
    ids: list[str] = []
    fronts: list[Front] = []
    with anyio.CancelScope() as scope:
        async with front(tmp_path, fs) as one:
            fronts.append(one)
            thread = await one.start()
            ids.append(thread.id)
            running = one.run(thread, "wait a")
            await one.engine.at("a").wait()
            scope.cancel()
            await running.wait()
    assert scope.cancelled_caught
    assert fronts[0].engine.closed
    async with front(tmp_path, fs) as again:
        assert [turn.status for turn in (await again.threads.read(ids[0])).turns] == ["interrupted"]
        assert again.told(ids[0])[-1].startswith("<turn_aborted>")


async def test_what_goes_wrong_while_it_is_open_leaves_as_itself(tmp_path: Path) -> None:
    async def visit() -> None:
        async with front(tmp_path) as one:
            thread = await one.start()
            one.run(thread, "wait a")
            await one.open("nobody")

    with pytest.raises(ThreadNotFound):
        await visit()


async def test_whoever_hears_the_end_can_take_the_thread(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        thread = await one.start()
        for text in ("first", "second"):
            turn = one.run(thread, text)
            async with turn.events() as heard:
                async for event in heard:
                    if isinstance(event, TurnEnded):
                        assert one.store.holder(thread.id) is None
                        async with one.store.lease(thread.id, one.owner):
                            pass
            assert (await turn.wait()).status == "completed"
