"""A turn with a scripted model: calls, retries, failures, interruptions, and what later turns repeat."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from agent_bench import House, Person, Workshop, heard, inputs, kind_of, reached
from inline_snapshot import snapshot

from clew.errors import BadRequest, DiskFull, ThreadNotFound
from clew.events import (
    ApprovalRequest,
    Decision,
    ItemCompleted,
    Notice,
    OutputDelta,
    TextDelta,
    TurnEnded,
    TurnError,
    TurnInput,
    TurnStarted,
    Usage,
    UsageUpdated,
)
from clew.live import LiveThread
from clew.rollout import Line
from clew.settings import ApprovalPolicy, Overrides, Sandbox, SandboxMode
from clew.testing import Call, Gate, Received, Step, ThreadBuilder, call, custom, memory_home, say

pytestmark = pytest.mark.anyio
PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
)


def durable_lines(workshop: Workshop, thread_id: str) -> list[str]:
    """What is certain of the thread to survive a power cut."""
    files = memory_home(workshop.fs).find(thread_id)
    assert files is not None
    lines = [json.loads(line) for line in workshop.fs.durable_bytes(files.current.path).splitlines()]
    return [kind_of(line["type"], line["payload"]) for line in lines]


# -- what is certain when ---------------------------------------------------------------------------------------------


async def test_the_prompt_is_durable_before_the_request_goes_out(workshop: Workshop) -> None:
    seen: list[list[str]] = []
    ids: list[str] = []

    def look(_: Received) -> Step:
        seen.append(durable_lines(workshop, ids[0]))
        return Step(items=[say("Hello.")])

    async with workshop.open() as house:
        thread = await house.start()
        ids.append(thread.id)
        workshop.script.steps.append(look)
        await house.say(thread, "Hello?")
        assert seen[0][-2:] == ["user message", "shown UserMessage"]
        assert durable_lines(workshop, thread.id)[-1] == "task_complete"


async def test_a_call_is_durable_before_its_tool_runs(workshop: Workshop) -> None:
    """The command waits until the test has looked at the disk."""
    async with workshop.open() as house:
        thread = await house.start()
        turn = house.ask(thread, "@exec echo started; read x < go; echo $x\n@say Done.")
        pipe = workshop.project / "go"
        os.mkfifo(pipe)
        async with turn.events() as events:
            async for event in events:
                if isinstance(event, OutputDelta) and "started" in event.text:
                    assert durable_lines(workshop, thread.id)[-1] == "function_call"
                    await anyio.to_thread.run_sync(pipe.write_text, "went\n")
        assert (await turn.wait()).last_message == "Done."
        await house.check(thread)
        assert inputs(workshop.requests[-1])[-1].endswith("went")


async def test_outputs_are_durable_before_the_next_request(workshop: Workshop) -> None:
    seen: list[list[str]] = []
    ids: list[str] = []

    def look(received: Received) -> Step:
        seen.append(durable_lines(workshop, ids[0]))
        return workshop.script.directives(received)

    async with workshop.open() as house:
        thread = await house.start()
        ids.append(thread.id)
        workshop.script.steps.extend([look, look, look])
        await house.say(thread, "@exec echo hi\n@write a.txt x\n@say Done.")
        assert [lines.count("function_call_output") for lines in seen] == [0, 1, 1]
        assert [lines.count("custom_tool_call_output") for lines in seen] == [0, 0, 1]


async def test_nothing_is_run_that_could_not_be_recorded(workshop: Workshop) -> None:
    ids: list[str] = []

    def fill(_: Received) -> Step:
        workshop.fs.free = 100
        return Step(items=[call("exec_command", {"cmd": "touch ran"}), say("lost")])

    async with workshop.open() as house:
        thread = await house.start()
        ids.append(thread.id)
        await house.say(thread, "@say Hello.")
        workshop.script.steps.append(fill)
        turn = house.ask(thread, "Do it.")
        with pytest.raises(DiskFull):
            await turn.wait()
        assert not (workshop.project / "ran").exists()
        workshop.fs.free = None
        assert (await house.say(thread, "@say Again.")).last_message == "Again."


async def test_what_is_recorded_while_a_turn_is_stopped_is_in_memory_too(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interruption arrives while a finished item is on its way to the disk."""
    async with workshop.open() as house:
        thread = await house.start()
        await house.say(thread, "@say Hello.")
        record = LiveThread.record
        turns: list[Any] = []

        async def stopping(self: LiveThread, lines: Sequence[Line], *, durable: bool = True) -> None:
            if any(kind_of(line.type, line.payload) == "assistant message" for line in lines):
                turns[0].interrupt()
            await record(self, lines, durable=durable)

        monkeypatch.setattr(LiveThread, "record", stopping)
        turns.append(house.ask(thread, "@say Second."))
        assert (await turns[0].wait()).status == "interrupted"
        monkeypatch.undo()
        await house.check(thread)


# -- calls ------------------------------------------------------------------------------------------------------------


async def test_parallel_outputs_are_recorded_as_they_finish_and_sent_in_the_order_of_the_calls(
    workshop: Workshop,
) -> None:
    async with workshop.open() as house:
        thread = await house.start()
        slow = "until [ -e go ]; do sleep 0.01; done; echo slow"
        turn = house.ask(thread, f"@together\n@exec {slow}\n@exec echo quick\n@say Done.")
        async with turn.events() as events:
            async for event in events:
                if isinstance(event, ItemCompleted) and event.item.id == "call_1_1":
                    while "function_call_output" not in house.kinds(thread):
                        await anyio.lowlevel.checkpoint()
                    (workshop.project / "go").touch()
        assert (await turn.wait()).last_message == "Done."
        await house.check(thread)
        outputs = [
            payload["call_id"] for _, payload in house.lines(thread) if payload.get("type") == "function_call_output"
        ]
        assert outputs == ["call_1_1", "call_1_0"]
        assert inputs(workshop.requests[1])[-4:] == [
            "function_call call_1_0",
            "output call_1_0: slow",
            "function_call call_1_1",
            "output call_1_1: quick",
        ] or inputs(workshop.requests[1])[-4:] == [
            "function_call call_1_0",
            "function_call call_1_1",
            "output call_1_0: slow",
            "output call_1_1: quick",
        ]


async def test_calls_that_cannot_be_carried_out_are_answered(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.start()
        asked = [call("no_such_tool", {}), call("exec_command", "{broken"), custom("apply_patch", "no patch")]
        workshop.script.steps.append(Step(items=asked))
        assert (await house.say(thread, "@say Done.")).status == "completed"
        answers = [line for line in inputs(workshop.requests[1]) if line.startswith("output")]
        assert len(answers) == 3
        assert answers[0] == "output call_1_0: unsupported call: no_such_tool"


async def test_a_response_that_does_not_end_the_turn_is_followed_by_a_request(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.start()
        result = await house.say(thread, "@more\n@say Part.")
        assert result.last_message == "Part."
        assert len(workshop.requests) == 2
        assert inputs(workshop.requests[1]) == [*inputs(workshop.requests[0]), "assistant: Part."]


async def test_usage_is_counted_for_the_response_the_turn_and_the_thread(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.start()
        await house.say(thread, "@say Hello.\n@usage 100 10")
        turn = house.ask(thread, "@exec true\n@say Done.\n@usage 200 20")
        result = await turn.wait()
        one = Usage(input_tokens=200, output_tokens=20, total_tokens=220)
        assert result.usage == one.plus(one)
        told = [(event.last, event.total) for event in await heard(turn) if isinstance(event, UsageUpdated)]
        start = Usage(input_tokens=100, output_tokens=10, total_tokens=110)
        assert told == [(one, start.plus(one)), (one, start.plus(one).plus(one))]
        counted = [payload for kind, payload in house.lines(thread) if kind == "token_usage_record"]
        assert [
            tuple(record[name]["total_tokens"] for name in ("usage", "turn_token_usage", "thread_token_usage"))
            for record in counted
        ] == [(110, 110, 110), (220, 220, 330), (220, 440, 550)]
        await house.check(thread)


# -- what goes wrong --------------------------------------------------------------------------------------------------


async def test_a_stream_that_breaks_after_a_call_does_not_run_it_twice(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.start()
        asked = call("exec_command", {"cmd": "echo ran >> log"}, call_id="c1")
        workshop.script.steps.append(Step(items=[asked, say("never")], deltas=False, drop="reset", drop_after=2))
        turn = house.ask(thread, "@say Done.")
        assert (await turn.wait()).last_message == "Done."
        await house.check(thread)
        assert (workshop.project / "log").read_text() == "ran\n"
        assert inputs(workshop.requests[1])[len(inputs(workshop.requests[0])) :] == [
            "function_call c1",
            "output c1: Output:",
        ]
        notices = [event.message for event in await heard(turn) if isinstance(event, Notice)]
        assert [notice.partition(" (")[0] for notice in notices] == ["Reconnecting... 1/5"]


async def test_retries_are_counted_anew_for_each_request_and_told(workshop: Workshop) -> None:
    workshop.provider = "stream_max_retries = 2\nrequest_max_retries = 0"
    broken = Step(items=[say("lost")], drop="clean_end", drop_after=1)
    async with workshop.open() as house:
        thread = await house.start()
        asked = Step(items=[call("exec_command", {"cmd": "true"})])
        workshop.script.steps.extend([broken, broken, asked, broken, broken])
        turn = house.ask(thread, "@say Done.")
        assert (await turn.wait()).last_message == "Done."
        notices = [event.message.partition(" (")[0] for event in await heard(turn) if isinstance(event, Notice)]
        assert notices == ["Reconnecting... 1/2", "Reconnecting... 2/2"] * 2


async def test_a_model_error_fails_the_turn_and_the_thread_goes_on(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.start()
        turn = house.ask(thread, "@fail invalid_prompt Not like this.")
        result = await turn.wait()
        assert (result.status, result.last_message) == ("failed", None)
        assert result.error == TurnError("Not like this.", "invalid_prompt")
        events = await heard(turn)
        assert events[0] == TurnStarted(thread.id, turn.turn_id)
        assert events[-1] == TurnEnded(turn.turn_id, result)
        kind, payload = house.lines(thread)[-1]
        assert (kind, payload["type"], payload["last_agent_message"], payload["error"]["message"]) == (
            "event_msg",
            "task_complete",
            None,
            "Not like this.",
        )
        (page,) = (await house.threads.read(thread.id)).turns
        assert (page.status, page.error) == ("failed", "Not like this.")
        assert (await house.say(thread, "@say Again.")).last_message == "Again."
        assert inputs(workshop.requests[-1])[-2:] == ["user: @fail invalid_prompt Not like this.", "user: @say Again."]


# -- interruptions ----------------------------------------------------------------------------------------------------


async def test_an_interruption_while_a_message_streams(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.start()
        gate = workshop.script.directives.gate("a")
        turn = house.ask(thread, "@wait a\n@say Never said.")
        await reached(gate)
        turn.interrupt()
        result = await turn.wait()
        assert (result.status, result.last_message) == ("interrupted", None)
        await house.check(thread)
        assert house.kinds(thread)[-4:] == ["user message", "shown UserMessage", "user message", "turn_aborted"]
        await house.say(thread, "@say Next.")
        assert inputs(workshop.requests[-1])[-3:] == ["user: @wait a", "user: <turn_aborted>", "user: @say Next."]
        workshop.endpoint.requests[0].wait_gone()


async def test_an_interruption_while_a_command_runs(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.start()
        turn = house.ask(thread, "@exec echo begun; sleep 60; touch late\n@say Never.")
        async with turn.events() as events:
            async for event in events:
                if isinstance(event, OutputDelta):
                    turn.interrupt()
        assert (await turn.wait()).status == "interrupted"
        await house.check(thread)
        kinds = house.kinds(thread)
        assert kinds[kinds.index("function_call") :] == [
            "function_call",
            "shown CommandExecution",
            "function_call_output",
            "user message",
            "turn_aborted",
        ] or kinds[-2:] == ["user message", "turn_aborted"]
        await house.say(thread, "@say Next.")
        assert inputs(workshop.requests[-1])[-4:] == [
            "function_call call_1_0",
            "output call_1_0: aborted by user",
            "user: <turn_aborted>",
            "user: @say Next.",
        ]
        assert not (workshop.project / "late").exists()


async def test_an_interruption_while_waiting_to_ask_again(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.start()
        error = {"code": "rate_limit_exceeded", "message": "Please try again in 600s."}
        workshop.script.steps.append(Step(finish="failed", error=error))
        turn = house.ask(thread, "@say Never.")
        async with turn.events() as events:
            async for event in events:
                if isinstance(event, Notice):
                    turn.interrupt()
        assert (await turn.wait()).status == "interrupted"
        await house.check(thread)
        assert len(workshop.requests) == 1


async def test_a_person_who_aborts_ends_the_turn(workshop: Workshop) -> None:
    workshop.person = Person(Decision.ABORT)
    async with workshop.open() as house:
        thread = await house.start(approval=ApprovalPolicy.UNTRUSTED, sandbox=Sandbox(mode=SandboxMode.READ_ONLY))
        result = await house.say(thread, "@exec touch a.txt\n@say Never.")
        assert result.status == "interrupted"
        assert [request.command[-1] for request in workshop.person.asked] == ["touch a.txt"]
        assert house.kinds(thread)[-2:] == ["user message", "turn_aborted"]
        assert len(workshop.requests) == 1
        assert not (workshop.project / "a.txt").exists()


async def test_a_person_who_declines_refuses_one_call(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.start(approval=ApprovalPolicy.UNTRUSTED, sandbox=Sandbox(mode=SandboxMode.READ_ONLY))
        result = await house.say(thread, "@exec touch a.txt\n@say Done.")
        assert (result.status, result.last_message) == ("completed", "Done.")
        assert len(workshop.person.asked) == 1
        assert isinstance(workshop.person.asked[0], ApprovalRequest)


# -- input ------------------------------------------------------------------------------------------------------------


async def test_images_and_a_schema_reach_the_model_and_the_log(workshop: Workshop) -> None:
    picture = workshop.project / "dot.png"
    picture.write_bytes(PIXEL)
    url = "data:image/png;base64,AAAA"
    schema = {
        "type": "object",
        "properties": {"a": {"type": "string"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    async with workshop.open() as house:
        thread = await house.start()
        given = TurnInput(text="Look.", images=(url,), local_images=(str(picture),), output_schema=schema)
        workshop.script.steps.append(Step(items=[say('{"a": "dot"}')]))
        turn = house.ask(thread, given)
        assert (await turn.wait()).last_message == '{"a": "dot"}'
        await house.check(thread)
        sent = workshop.requests[0]
        assert sent["text"]["format"]["schema"] == schema
        parts = sent["input"][-1]["content"]
        own = f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"
        assert [part.get("image_url") or part["text"] for part in parts] == [
            "Look.",
            url,
            f'<image name=[Image #1] path="{picture}">',
            own,
            "</image>",
        ]
        shown = next(event.item for event in await heard(turn) if isinstance(event, ItemCompleted))
        assert shown.fields["content"] == [
            {"type": "text", "text": "Look."},
            {"type": "image", "url": url},
            {"type": "localImage", "path": str(picture)},
        ]
        await house.say(thread, "@say Next.")
        assert "format" not in (workshop.requests[1].get("text") or {})


@pytest.mark.parametrize("name", ["missing.png", "notes.txt"])
async def test_an_image_that_is_none_starts_no_turn(name: str, workshop: Workshop) -> None:
    (workshop.project / "notes.txt").write_text("text")
    async with workshop.open() as house:
        thread = await house.start()
        with pytest.raises(BadRequest):
            await house.ask(thread, TurnInput(text="Look.", local_images=(str(workshop.project / name),))).wait()
        with pytest.raises(ThreadNotFound):
            await house.threads.summary(thread.id)
        assert workshop.requests == []


async def test_deltas_are_told_and_not_recorded(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.start()
        turn = house.ask(thread, "@think Deep thought.\n@say A rather long answer that comes in pieces.")
        async with turn.events() as events:
            told = [event async for event in events]
        said = "".join(event.text for event in told if isinstance(event, TextDelta) and event.kind == "message")
        assert said == "A rather long answer that comes in pieces."
        assert isinstance(told[0], TurnStarted)
        assert not [kind for kind in house.kinds(thread) if "delta" in kind]


async def test_what_people_should_know_comes_behind_the_start(workshop: Workshop) -> None:
    workshop.config = "project_doc_max_bytes = 10\n"
    (workshop.project / "AGENTS.md").write_text("Be kind to everyone, always.")
    async with workshop.open() as house:
        thread = await house.start()
        turn = house.ask(thread, "@say Hello.")
        await turn.wait()
        events = await heard(turn)
        assert isinstance(events[0], TurnStarted)
        assert isinstance(events[1], Notice)
        assert isinstance(events[-1], TurnEnded)


# -- later turns ------------------------------------------------------------------------------------------------------


async def test_a_second_turn_sends_only_what_changed(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.start()
        await house.say(thread, "@say One.")
        await house.say(thread, "@say Two.")
        first, second = workshop.requests
        assert inputs(second) == [*inputs(first), "assistant: One.", "user: @say Two."]
        (workshop.project / "AGENTS.md").write_text("Be kind.")
        await house.say(thread, "@say Three.")
        assert inputs(workshop.requests[2])[len(inputs(second)) :] == snapshot(
            [
                "assistant: Two.",
                "user: # AGENTS.md instructions for PATH",
                "user: @say Three.",
            ]
        )
        other = await house.threads.open(
            thread.id, workshop.settings(), Overrides(model="other", sandbox=Sandbox(mode=SandboxMode.READ_ONLY))
        )
        await house.say(other, "@say Four.")
        assert inputs(workshop.requests[3])[len(inputs(workshop.requests[2])) :] == snapshot(
            [
                "assistant: Three.",
                "developer: <model_switch>",
                "developer: <permissions instructions>",
                "user: <environment_context>",
                "user: @say Four.",
            ]
        )
        await house.say(other, "@say Five.")
        assert inputs(workshop.requests[4])[len(inputs(workshop.requests[3])) :] == [
            "assistant: Four.",
            "user: @say Five.",
        ]


async def test_a_resumed_thread_repeats_nothing(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.start()
        await house.say(thread, "@exec echo hi\n@say One.")
    async with workshop.open() as house:
        again = await house.threads.open(thread.id, workshop.settings())
        await house.say(again, "@say Two.")
        before, after = workshop.requests[-2:]
        assert after["input"][: len(before["input"])] == before["input"]
        assert inputs(after)[len(before["input"]) :] == ["assistant: One.", "user: @say Two."]


async def test_a_thread_of_codex_is_told_what_differs_once(workshop: Workshop) -> None:
    async with workshop.open() as house:
        builder = ThreadBuilder("0.169", cwd=str(workshop.project), model="m", provider="scripted")
        thread = await house.seeded(builder.turn("First?", "One.", calls=[Call("ls", "a.txt\n")], reasoning="Hm."))
        await house.say(thread, "@say Two.")
        await house.say(thread, "@say Three.")
        assert inputs(workshop.requests[0]) == snapshot(
            [
                "developer: <permissions instructions>",
                "user: <environment_context>",
                "user: First?",
                "reasoning",
                "function_call call_11",
                "output call_11: a.txt",
                "assistant: One.",
                "developer: <permissions instructions>",
                "user: <environment_context>",
                "user: @say Two.",
            ]
        )
        assert inputs(workshop.requests[1]) == [*inputs(workshop.requests[0]), "assistant: Two.", "user: @say Three."]


@pytest.mark.parametrize("era", ["0.36", "0.60", "0.104", "0.142", "0.158", "0.169"])
async def test_memory_and_log_agree_for_threads_of_every_era(era: Any, workshop: Workshop) -> None:
    async with workshop.open() as house:
        builder = ThreadBuilder(era, cwd=str(workshop.project), model="m", provider="scripted")
        builder.turn("First?", "One.").turn("Second?", "Two.").compact("The gist.").turn("Third?", "Three.")
        thread = await house.seeded(builder, Overrides(provider="scripted"))
        for text in ("@exec echo hi\n@say Four.", "@say Five.", "@fail invalid_prompt no", "@say Six."):
            await house.say(thread, text)
        assert inputs(workshop.requests[-1])[-1] == "user: @say Six."


async def test_a_call_that_a_kill_cut_off_is_answered_as_aborted(workshop: Workshop) -> None:
    async with workshop.open() as house:
        builder = ThreadBuilder("0.169", cwd=str(workshop.project), model="m", provider="scripted")
        thread = await house.seeded(
            builder.turn("First?", "One.").kill_during_call("Second?", Call("touch again", None))
        )
        before = len(house.lines(thread))
        await house.say(thread, "@say Three.")
        sent = inputs(workshop.requests[0])
        at = next(place for place, line in enumerate(sent) if line.startswith("function_call"))
        assert sent[at + 1] == f"output {sent[at].split()[1]}: aborted"
        assert "aborted" not in json.dumps(house.lines(thread)[before:])
        assert not (workshop.project / "again").exists()


async def test_a_held_answer_does_not_hold_other_threads(workshop: Workshop) -> None:
    async with workshop.open() as house:
        slow, quick = await house.start(), await house.start()
        gate: Gate = workshop.script.directives.gate("a")
        turn = house.ask(slow, "@wait a\n@say Slow.")
        await reached(gate)
        assert (await house.say(quick, "@say Quick.")).last_message == "Quick."
        gate.release()
        assert (await turn.wait()).last_message == "Slow."
        await check_both(house, slow.id, quick.id)


async def check_both(house: House, *thread_ids: str) -> None:
    for thread_id in thread_ids:
        assert (await house.threads.status(thread_id)).state == "idle"
