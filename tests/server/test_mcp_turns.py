"""Turns over their calls: side by side, one after the other, cancelled, in the background, waited for."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from server_fakes import HOLDER
from server_world import Talk, World, structured, text_of

from clew.errors import SyncFailed
from clew.threads import Threads

pytestmark = pytest.mark.anyio


async def _thread(talk: Talk) -> str:
    answer = await talk.answer(await talk.call("codex", prompt="start [[say:ready]]"))
    return answer["result"]["structuredContent"]["threadId"]


def _text(answer: dict[str, dict[str, list[dict[str, str]]]]) -> str:
    return answer["result"]["content"][0]["text"]


async def test_two_replies_at_once_are_queued_and_answered_each_with_its_own(world: World) -> None:
    async with world.talk() as talk:
        thread = await _thread(talk)
        first = await talk.call("codex-reply", threadId=thread, prompt="[[hold]][[say:one]]")
        await world.fake.holding.wait()
        second = await talk.call("codex-reply", threadId=thread, prompt="[[say:two]]")
        status = await talk.answer(await talk.call("thread_status", threadId=thread))
        assert status["result"]["structuredContent"]["state"] == "running"
        world.fake.release()
        assert (_text(await talk.answer(first)), _text(await talk.answer(second))) == ("one", "two")
        assert [len(talk.answers(request)) for request in (first, second)] == [1, 1]


async def test_two_threads_run_side_by_side(world: World) -> None:
    async with world.talk() as talk:
        slow = await talk.call("codex", prompt="[[hold]][[say:slow]]")
        assert _text(await talk.answer(await talk.call("codex", prompt="[[say:fast]]"))) == "fast"
        assert talk.answers(slow) == []
        world.fake.release()
        assert _text(await talk.answer(slow)) == "slow"


async def test_a_cancelled_call_interrupts_its_turn_and_is_not_answered(world: World) -> None:
    async with world.talk() as talk:
        thread = await _thread(talk)
        slow = await talk.call("codex-reply", threadId=thread, prompt="[[hold]][[say:late]]")
        await world.fake.holding.wait()
        await talk.tell("notifications/cancelled", {"requestId": slow, "reason": "stop"})
        for number in range(3):
            answer = await talk.answer(await talk.call("codex-reply", threadId=thread, prompt=f"[[say:next {number}]]"))
            assert _text(answer) == f"next {number}"
        assert talk.answers(slow) == []
        statuses = [turn.status for turn in world.fake.kept[thread].turns]
        assert statuses == ["completed", "interrupted", "completed", "completed", "completed"]


async def test_a_cancelled_queued_call_never_starts_and_leaves_the_running_one(world: World) -> None:
    async with world.talk() as talk:
        thread = await _thread(talk)
        running = await talk.call("codex-reply", threadId=thread, prompt="[[hold]][[say:kept]]")
        await world.fake.holding.wait()
        queued = await talk.call("codex-reply", threadId=thread, prompt="never")
        await talk.answer(await talk.call("thread_status", threadId=thread))
        await talk.tell("notifications/cancelled", {"requestId": queued})
        await talk.answer(await talk.call("thread_status", threadId=thread))
        world.fake.release()
        assert _text(await talk.answer(running)) == "kept"
        assert talk.answers(queued) == []
    assert "never" not in [given.text for _, given, _ in world.fake.asked]


async def test_a_cancel_for_an_unknown_request_changes_nothing(world: World) -> None:
    async with world.talk() as talk:
        for unknown in (99, "99", None, [1], {"a": 1}):
            await talk.tell("notifications/cancelled", {"requestId": unknown})
        assert await _thread(talk)


async def test_a_background_turn_answers_at_once_and_its_result_is_fetched_later(world: World) -> None:
    async with world.session() as session:
        started = await session.call_tool("codex", {"prompt": "[[hold]][[say:done]]", "background": True})
        thread, turn = structured(started)["threadId"], structured(started)["turnId"]
        assert structured(started)["status"] in ("queued", "running")
        await world.fake.holding.wait()
        early = await session.call_tool("thread_wait", {"threadId": thread, "timeout": 0.01})
        assert structured(early) | {"content": ""} == {
            "threadId": thread,
            "turnId": turn,
            "status": "running",
            "content": "",
        }
        world.fake.release()
        late = await session.call_tool("thread_wait", {"threadId": thread})
        ended = {"threadId": thread, "turnId": turn, "status": "completed", "content": "done"}
        assert late.structured_content == ended
        recorded = await session.call_tool("thread_wait", {"threadId": thread})
        assert recorded.structured_content == ended


async def test_the_recorded_result_of_a_failed_turn_is_its_error(world: World) -> None:
    async with world.session() as session:
        failed = await session.call_tool("codex", {"prompt": "[[fail:no model]]"})
        result = await session.call_tool("thread_wait", {"threadId": structured(failed)["threadId"]})
        assert (text_of(result), result.is_error, structured(result)["status"]) == ("no model", True, "failed")


async def test_a_thread_held_by_another_program_is_waited_for(world: World) -> None:
    async with world.session() as session:
        thread = structured(await session.call_tool("codex", {"prompt": "[[say:ours]]"}))["threadId"]
        world.fake.held.add(thread)
        held = await session.call_tool("thread_wait", {"threadId": thread, "timeout": 0.05})
        assert str(HOLDER) in text_of(held)
        assert structured(held)["status"] == "running"
        world.fake.held.clear()
        assert text_of(await session.call_tool("thread_wait", {"threadId": thread})) == "ours"


async def test_cancelling_a_wait_leaves_the_turn_running(world: World) -> None:
    async with world.talk() as talk:
        started = await talk.answer(await talk.call("codex", prompt="[[hold]][[say:done]]", background=True))
        thread = started["result"]["structuredContent"]["threadId"]
        await world.fake.holding.wait()
        wait = await talk.call("thread_wait", threadId=thread)
        await talk.ask("ping")
        await talk.tell("notifications/cancelled", {"requestId": wait})
        await talk.ask("ping")
        world.fake.release()
        again = await talk.answer(await talk.call("thread_wait", threadId=thread))
        assert _text(again) == "done"
        assert talk.answers(wait) == []


async def test_an_interrupt_ends_the_turn_and_its_call_is_told(world: World) -> None:
    async with world.talk() as talk:
        thread = await _thread(talk)
        slow = await talk.call("codex-reply", threadId=thread, prompt="[[hold]]")
        await world.fake.holding.wait()
        stopped = await talk.answer(await talk.call("thread_interrupt", threadId=thread))
        assert stopped["result"]["structuredContent"]["interrupted"] is True
        answer = (await talk.answer(slow))["result"]
        assert (answer["content"][0]["text"], answer["isError"]) == ("The turn was interrupted.", True)
        idle = await talk.answer(await talk.call("thread_interrupt", threadId=thread))
        assert idle["result"]["structuredContent"] == {
            "threadId": thread,
            "turnId": None,
            "interrupted": False,
            "content": f"No turn of thread {thread} is running.",
        }
        world.fake.held.add(thread)
        held = await talk.answer(await talk.call("thread_interrupt", threadId=thread))
        assert held["result"]["isError"]
        assert str(HOLDER) in _text(held)


async def test_a_home_that_cannot_be_opened_is_told_and_tried_again(world: World) -> None:
    failures = [SyncFailed("/home", "the disk is gone") for _ in range(2)]

    @asynccontextmanager
    async def factory() -> AsyncGenerator[Threads]:
        if failures:
            raise failures.pop()
        async with world.fake.open_home() as threads:
            yield threads

    world.factory = factory
    async with world.session() as session:
        texts: list[str] = []
        while texts[-1:] != ["T"]:
            texts.append(text_of(await session.call_tool("codex", {"prompt": "[[say:T]]"})))
        assert "the disk is gone" in texts[0]
    assert failures == []
