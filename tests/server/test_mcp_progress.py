"""Progress and `codex/event` notifications."""

from __future__ import annotations

from typing import Any

import anyio
import pytest
from server_world import World, structured

pytestmark = pytest.mark.anyio


async def test_progress_rises_begins_with_the_thread_and_tells_what_runs(world: World) -> None:
    seen: list[tuple[float, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append((progress, message))

    async with world.session() as session:
        result = await session.call_tool(
            "codex", {"prompt": "[[run:make test]][[say:ok]]"}, progress_callback=on_progress
        )
        thread = structured(result)["threadId"]
    assert [number for number, _ in seen] == [float(number) for number in range(1, len(seen) + 1)]
    assert [message for _, message in seen][:4] == [
        f"thread {thread}",
        "turn started",
        "running make test",
        "exit 0: make test",
    ]


async def test_progress_is_kept_up_in_silence(world: World) -> None:
    world.write_config("[clew]\nprogress_interval_seconds = 0.05\ncodex_events = false\n")
    enough = anyio.Event()
    seen: list[str] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        seen.append(message or "")
        if sum("waiting for the model" in text for text in seen) == 3:
            enough.set()

    async with world.session() as session, anyio.create_task_group() as tasks:

        async def call() -> None:
            await session.call_tool("codex", {"prompt": "[[hold]]"}, progress_callback=on_progress)

        tasks.start_soon(call)
        await enough.wait()
        world.fake.release()


async def test_without_a_token_there_is_no_progress(world: World) -> None:
    async with world.talk() as talk:
        await talk.answer(await talk.call("codex", prompt="[[run:x]]"))
        assert talk.events("notifications/progress") == []
        assert talk.events() == []


async def test_a_wait_reports_progress_too(world: World) -> None:
    async with world.talk() as talk:
        started = await talk.answer(await talk.call("codex", prompt="[[hold]]", background=True))
        thread = started["result"]["structuredContent"]["threadId"]
        params = {"name": "thread_wait", "arguments": {"threadId": thread}, "_meta": {"progressToken": "tok"}}
        wait = await talk.send("tools/call", params)
        first = await talk.until(lambda message: message.get("method") == "notifications/progress")
        assert first["params"] == {"progressToken": "tok", "progress": 1, "message": f"thread {thread}"}
        world.fake.release()
        await talk.answer(wait)


def _types(events: list[dict[str, Any]]) -> list[str]:
    return [event["msg"]["type"] for event in events]


async def test_events_come_when_asked_for_in_the_older_words_and_before_the_answer(world: World) -> None:
    async with world.talk() as talk:
        call = await talk.call("codex", prompt="[[run:ls]][[patch:/a]][[say:ok]]", events=True, effort="high")
        answer = await talk.answer(call)
        thread = answer["result"]["structuredContent"]["threadId"]
        turn = world.fake.kept[thread].turns[0].id
        events = talk.events()
        assert _types(events) == [
            "session_configured",
            "task_started",
            "user_message",
            "exec_command_begin",
            "exec_command_end",
            "apply_patch_approval_request",
            "agent_message",
            "token_count",
            "task_complete",
        ]
        assert talk.heard.index(answer) == len(talk.heard) - 1
        assert all(event["_meta"] == {"requestId": call, "threadId": thread} for event in events)
        assert [event["id"] for event in events] == ["", *[turn] * 8]
        assert events[0]["msg"] == {
            "type": "session_configured",
            "session_id": thread,
            "thread_id": thread,
            "model": world.fake.asked[0][2].model,
            "model_provider_id": "openai",
            "approval_policy": "on-request",
            "approvals_reviewer": "user",
            "permission_profile": {
                "type": "managed",
                "file_system": {
                    "type": "restricted",
                    "entries": [{"path": {"type": "special", "value": {"kind": "root"}}, "access": "read"}],
                },
                "network": "restricted",
            },
            "cwd": str(world.work),
            "reasoning_effort": "high",
        }
        ended = events[4]["msg"]
        assert ended.pop("completed_at_ms") > 0
        assert ended == {
            "type": "exec_command_end",
            "call_id": "call-1",
            "turn_id": turn,
            "process_id": None,
            "command": ["/bin/bash", "-lc", "ls"],
            "cwd": str(world.work),
            "parsed_cmd": [{"type": "unknown", "cmd": "ls"}],
            "source": "agent",
            "stdout": "out\n",
            "stderr": "",
            "aggregated_output": "out\n",
            "exit_code": 0,
            "duration": {"secs": 1, "nanos": 500_000_000},
            "formatted_output": "out\n",
            "status": "completed",
        }
        assert events[-1]["msg"]["last_agent_message"] == "ok"


async def test_a_resumed_reply_is_configured_again_and_names_its_rollout(world: World) -> None:
    world.write_config("[clew]\ncodex_events = true\n")
    async with world.talk() as talk:
        answer = await talk.answer(await talk.call("codex", prompt="x"))
        thread = answer["result"]["structuredContent"]["threadId"]
        reply = await talk.call("codex-reply", threadId=thread, prompt="[[fail:broken]]")
        await talk.answer(reply)
        events = [event for event in talk.events() if event["_meta"]["requestId"] == reply]
        assert _types(events) == [
            "session_configured",
            "task_started",
            "user_message",
            "token_count",
            "error",
            "task_complete",
        ]
        assert events[0]["msg"]["rollout_path"] == f"/home/sessions/{thread}.jsonl"
        assert events[-2]["msg"] == {"type": "error", "message": "broken", "codex_error_info": "other"}
        quiet = await talk.call("codex-reply", threadId=thread, prompt="x", events=False)
        await talk.answer(quiet)
        assert [event for event in talk.events() if event["_meta"]["requestId"] == quiet] == []
