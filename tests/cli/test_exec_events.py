"""The lines of `clew exec --json`."""

from __future__ import annotations

from typing import Any

import pytest

from clew.cli.exec_events import ExecEvents, exec_item
from clew.events import (
    Event,
    Item,
    ItemCompleted,
    ItemStarted,
    Notice,
    OutputDelta,
    TextDelta,
    TurnEnded,
    TurnError,
    TurnResult,
    TurnStarted,
    Usage,
    UsageUpdated,
)

_USAGE = Usage(input_tokens=20, cached_input_tokens=4, output_tokens=10, reasoning_output_tokens=2, total_tokens=30)


def _lines(*events: Event, notices: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    stream = ExecEvents("th", notices)
    return [line for event in events for line in stream.lines(event)]


def _command(**fields: Any) -> Item:
    return Item("call-1", "commandExecution", {"command": "/bin/bash -lc 'echo out; exit 3'", **fields})


def _ended(status: Any, message: str | None = None) -> TurnEnded:
    error = TurnError(message) if message else None
    return TurnEnded("t", TurnResult(thread_id="th", turn_id="t", status=status, error=error))


def test_a_turn_with_a_command_is_told_in_order() -> None:
    assert _lines(
        TurnStarted("th", "t"),
        ItemCompleted("t", Item("u", "userMessage", {"content": []})),
        ItemStarted("t", Item("r", "reasoning", {"summary": []})),
        ItemCompleted("t", Item("r", "reasoning", {"summary": ["**Planning** ok", "more"]})),
        ItemStarted("t", _command(aggregatedOutput=None, exitCode=None, status="inProgress")),
        OutputDelta("t", "call-1", "out\n"),
        ItemCompleted("t", _command(aggregatedOutput="out\n", exitCode=3, status="failed")),
        ItemStarted("t", Item("m", "agentMessage", {"text": ""})),
        TextDelta("t", "m", "rep"),
        ItemCompleted("t", Item("m", "agentMessage", {"text": "reply", "phase": "final_answer"})),
        UsageUpdated("t", last=Usage(input_tokens=10), total=_USAGE),
        _ended("completed"),
        notices=("wider sandbox",),
    ) == [
        {"type": "thread.started", "thread_id": "th"},
        {"type": "item.completed", "item": {"id": "item_0", "type": "error", "message": "wider sandbox"}},
        {"type": "turn.started"},
        {"type": "item.completed", "item": {"id": "item_1", "type": "reasoning", "text": "**Planning** ok\nmore"}},
        {
            "type": "item.started",
            "item": {
                "id": "item_2",
                "type": "command_execution",
                "command": "/bin/bash -lc 'echo out; exit 3'",
                "aggregated_output": "",
                "exit_code": None,
                "status": "in_progress",
            },
        },
        {
            "type": "item.completed",
            "item": {
                "id": "item_2",
                "type": "command_execution",
                "command": "/bin/bash -lc 'echo out; exit 3'",
                "aggregated_output": "out\n",
                "exit_code": 3,
                "status": "failed",
            },
        },
        {"type": "item.completed", "item": {"id": "item_3", "type": "agent_message", "text": "reply"}},
        {
            "type": "turn.completed",
            "usage": {
                "input_tokens": 20,
                "cached_input_tokens": 4,
                "cache_write_input_tokens": 0,
                "output_tokens": 10,
                "reasoning_output_tokens": 2,
            },
        },
    ]


def test_a_failed_turn_is_told_twice() -> None:
    assert _lines(TurnStarted("th", "t"), _ended("failed", "no such model"))[2:] == [
        {"type": "error", "message": "no such model"},
        {"type": "turn.failed", "error": {"message": "no such model"}},
    ]


def test_an_interrupted_turn_has_no_end() -> None:
    assert [line["type"] for line in _lines(TurnStarted("th", "t"), _ended("interrupted"))] == [
        "thread.started",
        "turn.started",
    ]


def test_a_call_left_open_is_closed_as_failed() -> None:
    lines = _lines(
        TurnStarted("th", "t"),
        ItemStarted("t", _command(status="inProgress")),
        ItemStarted("t", _command(status="inProgress")),
        _ended("completed"),
    )
    assert [(line["type"], line["item"]["id"], line["item"]["status"]) for line in lines if "item" in line] == [
        ("item.started", "item_0", "in_progress"),
        ("item.started", "item_0", "in_progress"),
        ("item.completed", "item_0", "failed"),
    ]


def test_warnings_are_error_items_and_news_are_silent() -> None:
    assert _lines(Notice("t", "retrying"), Notice("t", "waiting", level="info")) == [
        {"type": "item.completed", "item": {"id": "item_0", "type": "error", "message": "retrying"}}
    ]


def test_blank_reasoning_takes_no_number() -> None:
    assert _lines(
        ItemCompleted("t", Item("r", "reasoning", {"summary": ["  "]})),
        ItemCompleted("t", Item("m", "agentMessage", {"text": "a"})),
    ) == [{"type": "item.completed", "item": {"id": "item_0", "type": "agent_message", "text": "a"}}]


@pytest.mark.parametrize(
    ("item", "shown"),
    [
        (
            Item(
                "p",
                "fileChange",
                {
                    "changes": [{"path": "/a", "kind": {"type": "update", "move_path": None}, "diff": "…"}],
                    "status": "declined",
                },
            ),
            {"type": "file_change", "changes": [{"path": "/a", "kind": "update"}], "status": "failed"},
        ),
        (
            Item("c", "commandExecution", {"command": "x", "status": "declined"}),
            {
                "type": "command_execution",
                "command": "x",
                "aggregated_output": "",
                "exit_code": None,
                "status": "declined",
            },
        ),
        (
            Item(
                "m",
                "mcpToolCall",
                {
                    "server": "s",
                    "tool": "t",
                    "arguments": {"a": 1},
                    "result": {"content": [], "structuredContent": {"x": 1}, "_meta": None},
                    "error": None,
                    "status": "completed",
                },
            ),
            {
                "type": "mcp_tool_call",
                "server": "s",
                "tool": "t",
                "arguments": {"a": 1},
                "result": {"content": [], "structured_content": {"x": 1}},
                "error": None,
                "status": "completed",
            },
        ),
        (
            Item(
                "a",
                "collabAgentToolCall",
                {
                    "tool": "spawnAgent",
                    "senderThreadId": "x",
                    "receiverThreadIds": ["y"],
                    "prompt": "go",
                    "agentsStates": {"y": {"status": "pendingInit", "message": None}},
                    "status": "interrupted",
                },
            ),
            {
                "type": "collab_tool_call",
                "tool": "spawn_agent",
                "sender_thread_id": "x",
                "receiver_thread_ids": ["y"],
                "prompt": "go",
                "agents_states": {"y": {"status": "pending_init", "message": None}},
                "status": "failed",
            },
        ),
        (
            Item("w", "webSearch", {"query": "q", "action": {"type": "search"}}),
            {"type": "web_search", "query": "q", "action": {"type": "search"}},
        ),
        (Item("k", "contextCompaction", {}), None),
        (Item("l", "collabAgentToolCall", {"tool": "listAgents"}), None),
    ],
)
def test_items_have_the_words_programs_know(item: Item, shown: dict[str, Any] | None) -> None:
    assert exec_item(item) == shown
