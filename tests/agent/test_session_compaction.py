"""Windows: when they are full, what the next one holds, and what goes wrong in between."""

from __future__ import annotations

from typing import Any

import pytest
from agent_bench import House, Workshop, heard, inputs, reached
from inline_snapshot import snapshot

from clew.config import OFFLINE
from clew.errors import BadRequest
from clew.events import ItemCompleted, Notice, Usage, UsageUpdated
from clew.settings import Overrides
from clew.testing import Gate, Received, Step, ThreadBuilder, call, say
from clew.threads import Thread

pytestmark = pytest.mark.anyio

FULL = Step(finish="failed", error={"code": "context_length_exceeded", "message": "too long"})
SUMMARY = Step(items=[say("The gist.")], usage={"input_tokens": 70, "output_tokens": 7, "total_tokens": 77})


def small(workshop: Workshop, limit: int = 2000) -> None:
    workshop.config = f"model_auto_compact_token_limit = {limit}\n"


def compacted(house: House, thread: Thread) -> list[dict[str, Any]]:
    return [payload for kind, payload in house.lines(thread) if kind == "compacted"]


async def test_a_full_window_is_compacted_before_the_next_request(workshop: Workshop) -> None:
    small(workshop)
    async with workshop.open() as house:
        thread = await house.start()
        await house.say(thread, "@say Hello.\n@usage 1990 20")
        before = len(house.lines(thread))
        workshop.script.steps.append(SUMMARY)
        result = await house.say(thread, "@say Again.\n@usage 30 3")
        assert (result.status, result.last_message) == ("completed", "Again.")
        assert result.usage == Usage(input_tokens=100, output_tokens=10, total_tokens=110)
        assert house.kinds(thread, before) == snapshot(
            [
                "task_started",
                "turn_context",
                "user message",
                "shown UserMessage",
                "token_usage_record",
                "token_count",
                "compacted",
                "world_state",
                "turn_context",
                "thread_settings_applied",
                "token_count",
                "shown ContextCompaction",
                "shown AgentMessage",
                "assistant message",
                "token_usage_record",
                "token_count",
                "task_complete",
            ]
        )
        summary, following = workshop.requests[1:]
        assert summary["tools"] == []
        assert inputs(summary)[:-1] == [
            *inputs(workshop.requests[0]),
            "assistant: Hello.",
            "user: @say Again.",
        ]
        (window,) = compacted(house, thread)
        first = house.lines(thread)[0][1]["context_window"]["window_id"]
        assert (window["window_number"], window["first_window_id"], window["previous_window_id"]) == (1, first, first)
        assert window["message"].endswith(":\nThe gist.")
        assert [item["role"] for item in window["replacement_history"]] == ["user", "developer", "user", "user", "user"]
        assert inputs(following) == snapshot(
            [
                "user: @say Hello.",
                "developer: <permissions instructions>",
                "user: <environment_context>",
                "user: @say Again.",
                "user: Another language model started to solve this problem and pro",
            ]
        )
        sent = {item["id"] for item in following["input"]}
        assert sent == {item["id"] for item in window["replacement_history"]}
        await house.say(thread, "@say Third.")
        assert inputs(workshop.requests[-1]) == [*inputs(following), "assistant: Again.", "user: @say Third."]


@pytest.mark.parametrize("era", ["paginated", "legacy"])
async def test_a_thread_is_compacted_in_a_turn_of_its_own_when_somebody_asks_for_it(
    era: str, workshop: Workshop
) -> None:
    async with workshop.open() as house:
        thread = await (house.start() if era == "paginated" else house.legacy())
        await house.say(thread, "@say Hello.")
        before = len(house.lines(thread))
        workshop.script.steps.append(SUMMARY)
        turn = thread.compact(trigger="cli")
        result = await turn.wait()
        assert (result.status, result.last_message) == ("completed", None)
        assert result.usage == Usage(input_tokens=70, output_tokens=7, total_tokens=77)
        shown = "shown ContextCompaction" if era == "paginated" else "context_compacted"
        window = ["compacted", "world_state", "turn_context", "thread_settings_applied", "token_count", shown]
        counted = ["token_usage_record", "token_count"]
        assert house.kinds(thread, before) == ["task_started", *counted, *window, "task_complete"]
        told = [event.item.type for event in await heard(turn) if isinstance(event, ItemCompleted)]
        assert told == ["contextCompaction"]
        await house.check(thread)
        page = await house.threads.read(thread.id, newest_first=True, limit=1)
        kinds = [item["type"] for item in page.turns[0].items]
        assert (page.turns[0].status, kinds) == ("completed", ["contextCompaction"])
        assert (await house.say(thread, "@say On.")).last_message == "On."
        assert inputs(workshop.requests[-1])[-1] == "user: @say On."
        assert not any("Hello." in line and line.startswith("assistant") for line in inputs(workshop.requests[-1]))


async def test_a_compaction_that_fails_or_is_stopped_leaves_the_context_as_it_was(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.start()
        with pytest.raises(BadRequest):
            thread.compact()
        await house.say(thread, "@say Hello.")
        workshop.script.steps.append(Step(status=400, error={"message": "no"}))
        failed = await thread.compact().wait()
        assert (failed.status, failed.error is not None) == ("failed", True)
        gate = Gate()
        workshop.script.steps.append(Step(items=[say("The gist.")], gate=gate))
        turn = thread.compact()
        await reached(gate)
        turn.interrupt()
        assert (await turn.wait()).status == "interrupted"
        gate.release()
        await house.check(thread)
        assert compacted(house, thread) == []
        await house.say(thread, "@say On.")
        assert "assistant: Hello." in inputs(workshop.requests[-1])


async def test_a_full_window_is_compacted_inside_a_turn(workshop: Workshop) -> None:
    small(workshop)
    async with workshop.open() as house:
        thread = await house.start()
        asked = call("exec_command", {"cmd": "echo hi"}, call_id="c1")
        used = {"input_tokens": 1990, "output_tokens": 20, "total_tokens": 2010}
        workshop.script.steps.extend([Step(items=[asked], usage=used), SUMMARY])
        assert (await house.say(thread, "@say Done.")).last_message == "Done."
        first, summary, following = workshop.requests
        assert inputs(summary)[:-1] == [*inputs(first), "function_call c1", "output c1: hi"]
        assert inputs(following) == snapshot(
            [
                "developer: <permissions instructions>",
                "user: <environment_context>",
                "user: @say Done.",
                "user: Another language model started to solve this problem and pro",
            ]
        )
        assert [window["window_number"] for window in compacted(house, thread)] == [1]


async def test_a_request_that_is_too_long_is_compacted_once(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.start()
        await house.say(thread, "@say Hello.")
        workshop.script.steps.extend([FULL, SUMMARY])
        turn = house.ask(thread, "@say Again.")
        assert (await turn.wait()).last_message == "Again."
        await house.check(thread)
        shown = [event.item.type for event in await heard(turn) if isinstance(event, ItemCompleted)]
        assert shown == ["userMessage", "contextCompaction", "agentMessage"]
        counted = [event.last.total_tokens for event in await heard(turn) if isinstance(event, UsageUpdated)]
        assert counted == [77, 15], "the summary costs as well"
        workshop.script.steps.extend([FULL, SUMMARY, FULL])
        failed = await house.say(thread, "@say Once more.")
        assert (failed.status, failed.error.kind if failed.error else None) == ("failed", "context_length_exceeded")
        assert (await house.say(thread, "@say It goes on.")).last_message == "It goes on."
        assert len(compacted(house, thread)) == 2


async def test_a_summary_that_is_too_long_is_asked_for_without_the_oldest(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.start()
        await house.say(thread, "@exec echo hi\n@say Hello.")
        workshop.script.steps.extend([FULL, FULL, FULL, FULL, SUMMARY])
        await house.say(thread, "@say Again.")
        asked = [inputs(body) for body in workshop.requests[3:7]]
        assert [len(items) for items in asked[1:]] == [len(asked[0]) - 1, len(asked[0]) - 2, len(asked[0]) - 3]
        assert all(items[-1] == asked[0][-1] for items in asked)
        calls = [(sum("function_call" in i for i in items), sum("output" in i for i in items)) for items in asked]
        assert all(call == output for call, output in calls)


async def test_the_recorded_settings_survive_a_compaction(workshop: Workshop) -> None:
    async with workshop.open() as house:
        workshop.config = ""
        builder = ThreadBuilder("0.169", cwd=str(workshop.project), model="m", provider=OFFLINE)
        asked = Overrides(provider="scripted", effort="high", developer_instructions="Be kind.", compact_prompt="Gist?")
        thread = await house.seeded(builder.turn("First?", "One."), asked)
        workshop.script.steps.extend([FULL, SUMMARY])
        await house.say(thread, "@say Again.")
        assert inputs(workshop.requests[1])[-1] == "user: Gist?"
    async with workshop.open() as house:
        again = await house.threads.open(builder.id, workshop.settings(provider=OFFLINE))
        got = again.settings
        assert (got.provider, got.effort, got.developer_instructions, got.compact_prompt) == (
            "scripted",
            "high",
            "Be kind.",
            "Gist?",
        )
        await house.say(again, "@say Third.")
        assert inputs(workshop.requests[-1])[-2:] == ["assistant: Again.", "user: @say Third."]


async def test_compactions_in_an_old_thread(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.legacy()
        workshop.script.steps.extend([FULL, SUMMARY])
        await house.say(thread, "@say Again.")
        assert house.kinds(thread)[-14:] == snapshot(
            [
                "user_message",
                "token_usage_record",
                "token_count",
                "compacted",
                "world_state",
                "turn_context",
                "thread_settings_applied",
                "token_count",
                "context_compacted",
                "agent_message",
                "assistant message",
                "token_usage_record",
                "token_count",
                "task_complete",
            ]
        )
        assert inputs(workshop.requests[-1]) == snapshot(
            [
                "user: Before?",
                "developer: <permissions instructions>",
                "user: <environment_context>",
                "user: @say Again.",
                "user: Another language model started to solve this problem and pro",
            ]
        )


async def test_a_compaction_that_stumbles_is_tried_again_and_told(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.start()
        await house.say(thread, "@say Hello.")
        workshop.script.steps.extend([FULL, Step(items=[say("lost")], drop="reset", drop_after=2), SUMMARY])
        turn = house.ask(thread, "@say Again.")
        assert (await turn.wait()).last_message == "Again."
        await house.check(thread)
        notices = [event.message for event in await heard(turn) if isinstance(event, Notice)]
        assert [notice.partition(" (")[0] for notice in notices] == ["Reconnecting... 1/5"]
        assert compacted(house, thread)[0]["message"].endswith("\nThe gist.")


async def test_a_compaction_that_fails_fails_the_turn_and_keeps_the_history(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.start()
        await house.say(thread, "@say Hello.")
        workshop.script.steps.extend([FULL, Step(status=400, body={"error": {"message": "no"}})])
        assert (await house.say(thread, "@say Again.")).status == "failed"
        assert compacted(house, thread) == []
        await house.say(thread, "@say Third.")
        assert inputs(workshop.requests[-1])[-3:] == ["assistant: Hello.", "user: @say Again.", "user: @say Third."]


async def test_an_interrupted_compaction_changes_nothing(workshop: Workshop) -> None:
    small(workshop)
    gate = Gate()

    def held(_: Received) -> Step:
        return Step(items=[say("late")], gate=gate, gate_after=1)

    async with workshop.open() as house:
        thread = await house.start()
        await house.say(thread, "@say Hello.\n@usage 1990 20")
        workshop.script.steps.append(held)
        turn = house.ask(thread, "@say Again.")
        await reached(gate)
        turn.interrupt()
        assert (await turn.wait()).status == "interrupted"
        await house.check(thread)
        assert compacted(house, thread) == []
        assert len(workshop.requests) == 2, "nothing is asked after the interruption"
        assert house.kinds(thread)[-2:] == ["user message", "turn_aborted"]
