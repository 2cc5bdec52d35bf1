"""What a turn records, line by line, in both history modes."""

from __future__ import annotations

import pytest
from agent_bench import Workshop, plain
from inline_snapshot import snapshot

pytestmark = pytest.mark.anyio


async def test_the_lines_of_a_plain_turn(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.start(effort="low")
        await house.say(thread, "@think Hm.\n@say Hello.\n@usage 100 20")
        assert plain(house.lines(thread), workshop.project) == snapshot(
            [
                (
                    "session_meta",
                    {
                        "session_id": "ID0",
                        "id": "ID0",
                        "timestamp": "timestamp",
                        "cwd": "CWD",
                        "runtime_workspace_roots": ["CWD"],
                        "originator": "test",
                        "cli_version": "1.2.3",
                        "source": "exec",
                        "thread_source": "user",
                        "model_provider": "scripted",
                        "base_instructions": {"text": "Be brief.", "provenance": {"type": "custom"}},
                        "history_mode": "paginated",
                        "context_window": {"window_id": "ID1"},
                    },
                ),
                (
                    "event_msg",
                    {
                        "type": "task_started",
                        "turn_attribution": {
                            "turn_id": "ID2",
                            "turn_trigger": "user",
                            "parent_turn_id": None,
                            "initiating_agent_path": None,
                            "root_turn_id": "ID2",
                        },
                        "turn_id": "ID2",
                        "root_turn_id": "ID2",
                        "started_at": 0,
                        "model_context_window": 258400,
                        "collaboration_mode_kind": "default",
                    },
                ),
                (
                    "response_item",
                    {
                        "type": "message",
                        "id": "msg_ID3",
                        "role": "developer",
                        "content": [
                            {
                                "type": "input_text",
                                "text": """\
<permissions instructions>
`…\
""",
                            }
                        ],
                        "internal_chat_message_metadata_passthrough": {"turn_id": "ID2"},
                    },
                ),
                (
                    "response_item",
                    {
                        "type": "message",
                        "id": "msg_ID4",
                        "role": "user",
                        "content": [
                            {
                                "type": "input_text",
                                "text": """\
<environment_context>
  <cwd…\
""",
                            }
                        ],
                        "internal_chat_message_metadata_passthrough": {"turn_id": "ID2"},
                    },
                ),
                (
                    "world_state",
                    {
                        "full": True,
                        "state": {
                            "agents_md": {},
                            "environments": {
                                "environments": {"local": {"cwd": "CWD", "status": "available", "shell": "bash"}},
                                "current_date": "current_date",
                                "timezone": "timezone",
                                "filesystem": "<filesystem><workspace_roots…",
                            },
                            "model": "m",
                            "permissions": {"instructions": "SHA1", "approved_command_prefixes": []},
                        },
                    },
                ),
                (
                    "turn_context",
                    {
                        "turn_id": "ID2",
                        "root_turn_id": "ID2",
                        "cwd": "CWD",
                        "approval_policy": "never",
                        "approvals_reviewer": "user",
                        "model": "m",
                        "collaboration_mode": {
                            "mode": "default",
                            "settings": {"model": "m", "reasoning_effort": "low", "developer_instructions": None},
                        },
                        "realtime_active": False,
                        "summary": "none",
                        "permission_profile": {"type": "disabled"},
                        "sandbox_policy": {"type": "danger-full-access"},
                        "effort": "low",
                    },
                ),
                (
                    "event_msg",
                    {
                        "type": "thread_settings_applied",
                        "thread_id": "ID0",
                        "thread_settings": {
                            "model": "m",
                            "model_provider_id": "scripted",
                            "approval_policy": "never",
                            "approvals_reviewer": "user",
                            "permission_profile": {"type": "disabled"},
                            "cwd": "CWD",
                            "runtime_workspace_roots": ["CWD"],
                            "collaboration_mode": {
                                "mode": "default",
                                "settings": {"model": "m", "reasoning_effort": "low", "developer_instructions": None},
                            },
                            "reasoning_effort": "low",
                        },
                    },
                ),
                (
                    "response_item",
                    {
                        "type": "message",
                        "id": "msg_ID5",
                        "role": "user",
                        "content": [
                            {
                                "type": "input_text",
                                "text": """\
@think Hm.
@say Hello.
@usage 100 20\
""",
                            }
                        ],
                        "internal_chat_message_metadata_passthrough": {"turn_id": "ID2"},
                    },
                ),
                (
                    "event_msg",
                    {
                        "type": "item_completed",
                        "thread_id": "ID0",
                        "turn_id": "ID2",
                        "item": {
                            "type": "UserMessage",
                            "id": "ID6",
                            "content": [
                                {
                                    "type": "text",
                                    "text": """\
@think Hm.
@say Hello.
@usage 100 20\
""",
                                    "text_elements": [],
                                }
                            ],
                        },
                        "started_at_ms": 0,
                        "completed_at_ms": 0,
                    },
                ),
                (
                    "event_msg",
                    {
                        "type": "item_completed",
                        "thread_id": "ID0",
                        "turn_id": "ID2",
                        "item": {"type": "Reasoning", "id": "rs_1_0", "summary_text": ["Hm."], "raw_content": []},
                        "started_at_ms": 0,
                        "completed_at_ms": 0,
                    },
                ),
                (
                    "response_item",
                    {
                        "type": "reasoning",
                        "id": "rs_1_0",
                        "summary": [{"type": "summary_text", "text": "Hm."}],
                        "encrypted_content": "opaque:Hm.",
                        "internal_chat_message_metadata_passthrough": {"turn_id": "ID2"},
                    },
                ),
                (
                    "event_msg",
                    {
                        "type": "item_completed",
                        "thread_id": "ID0",
                        "turn_id": "ID2",
                        "item": {
                            "type": "AgentMessage",
                            "id": "msg_1_1",
                            "content": [{"type": "Text", "text": "Hello."}],
                        },
                        "started_at_ms": 0,
                        "completed_at_ms": 0,
                    },
                ),
                (
                    "response_item",
                    {
                        "type": "message",
                        "id": "msg_1_1",
                        "role": "assistant",
                        "content": [{"type": "output_text", "text": "Hello."}],
                        "internal_chat_message_metadata_passthrough": {"turn_id": "ID2"},
                    },
                ),
                (
                    "token_usage_record",
                    {
                        "thread_id": "ID0",
                        "turn_id": "ID2",
                        "session_id": "ID0",
                        "root_turn_id": "ID2",
                        "response_id": "resp_1",
                        "usage": "100 in, 20 out, 120 total",
                        "turn_token_usage": "100 in, 20 out, 120 total",
                        "thread_token_usage": "100 in, 20 out, 120 total",
                    },
                ),
                (
                    "event_msg",
                    {
                        "type": "token_count",
                        "info": {
                            "total_token_usage": "100 in, 20 out, 120 total",
                            "last_token_usage": "100 in, 20 out, 120 total",
                            "model_context_window": 258400,
                        },
                        "rate_limits": None,
                    },
                ),
                (
                    "event_msg",
                    {
                        "type": "task_complete",
                        "root_turn_id": "ID2",
                        "turn_id": "ID2",
                        "last_agent_message": "Hello.",
                        "started_at": 0,
                        "completed_at": 0,
                        "duration_ms": 0,
                        "time_to_first_token_ms": 0,
                    },
                ),
            ]
        )


async def test_the_lines_of_a_plain_turn_in_an_old_thread(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.legacy()
        await house.say(thread, "@say Hello again.")
        before = len(house.lines(thread))
        await house.say(thread, "@think Hm.\n@say Hello.\n@usage 100 20")
        assert plain(house.lines(thread)[before:], workshop.project) == snapshot(
            [
                (
                    "event_msg",
                    {
                        "type": "task_started",
                        "turn_attribution": {
                            "turn_id": "ID0",
                            "turn_trigger": "user",
                            "parent_turn_id": None,
                            "initiating_agent_path": None,
                            "root_turn_id": "ID0",
                        },
                        "turn_id": "ID0",
                        "root_turn_id": "ID0",
                        "started_at": 0,
                        "model_context_window": 258400,
                        "collaboration_mode_kind": "default",
                    },
                ),
                (
                    "turn_context",
                    {
                        "turn_id": "ID0",
                        "root_turn_id": "ID0",
                        "cwd": "CWD",
                        "approval_policy": "never",
                        "approvals_reviewer": "user",
                        "model": "m",
                        "collaboration_mode": {
                            "mode": "default",
                            "settings": {"model": "m", "reasoning_effort": None, "developer_instructions": None},
                        },
                        "realtime_active": False,
                        "summary": "auto",
                        "permission_profile": {"type": "disabled"},
                        "sandbox_policy": {"type": "danger-full-access"},
                    },
                ),
                (
                    "response_item",
                    {
                        "type": "message",
                        "id": "msg_ID1",
                        "role": "user",
                        "content": [
                            {
                                "type": "input_text",
                                "text": """\
@think Hm.
@say Hello.
@usage 100 20\
""",
                            }
                        ],
                        "internal_chat_message_metadata_passthrough": {"turn_id": "ID0"},
                    },
                ),
                (
                    "event_msg",
                    {
                        "type": "user_message",
                        "message": """\
@think Hm.
@say Hello.
@usage 100 20\
""",
                        "images": [],
                        "local_images": [],
                        "text_elements": [],
                    },
                ),
                ("event_msg", {"type": "agent_reasoning", "text": "Hm."}),
                (
                    "response_item",
                    {
                        "type": "reasoning",
                        "id": "rs_2_0",
                        "summary": [{"type": "summary_text", "text": "Hm."}],
                        "encrypted_content": "opaque:Hm.",
                        "internal_chat_message_metadata_passthrough": {"turn_id": "ID0"},
                    },
                ),
                ("event_msg", {"type": "agent_message", "message": "Hello.", "phase": None, "memory_citation": None}),
                (
                    "response_item",
                    {
                        "type": "message",
                        "id": "msg_2_1",
                        "role": "assistant",
                        "content": [{"type": "output_text", "text": "Hello."}],
                        "internal_chat_message_metadata_passthrough": {"turn_id": "ID0"},
                    },
                ),
                (
                    "token_usage_record",
                    {
                        "thread_id": "ID2",
                        "turn_id": "ID0",
                        "session_id": "ID2",
                        "root_turn_id": "ID0",
                        "response_id": "resp_2",
                        "usage": "100 in, 20 out, 120 total",
                        "turn_token_usage": "100 in, 20 out, 120 total",
                        "thread_token_usage": "190 in, 65 out, 255 total",
                    },
                ),
                (
                    "event_msg",
                    {
                        "type": "token_count",
                        "info": {
                            "total_token_usage": "190 in, 65 out, 255 total",
                            "last_token_usage": "100 in, 20 out, 120 total",
                            "model_context_window": 258400,
                        },
                        "rate_limits": None,
                    },
                ),
                (
                    "event_msg",
                    {
                        "type": "task_complete",
                        "root_turn_id": "ID0",
                        "turn_id": "ID0",
                        "last_agent_message": "Hello.",
                        "started_at": 0,
                        "completed_at": 0,
                        "duration_ms": 0,
                        "time_to_first_token_ms": 0,
                    },
                ),
            ]
        )


async def test_the_lines_of_a_command_and_a_patch(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.start()
        await house.say(thread, "@say Hello.")
        before = len(house.lines(thread))
        await house.say(thread, "@exec echo hi\n@write a.txt text\n@say Done.")
        assert plain(house.lines(thread)[before:], workshop.project) == snapshot(
            [
                (
                    "event_msg",
                    {
                        "type": "task_started",
                        "turn_attribution": {
                            "turn_id": "ID0",
                            "turn_trigger": "user",
                            "parent_turn_id": None,
                            "initiating_agent_path": None,
                            "root_turn_id": "ID0",
                        },
                        "turn_id": "ID0",
                        "root_turn_id": "ID0",
                        "started_at": 0,
                        "model_context_window": 258400,
                        "collaboration_mode_kind": "default",
                    },
                ),
                (
                    "turn_context",
                    {
                        "turn_id": "ID0",
                        "root_turn_id": "ID0",
                        "cwd": "CWD",
                        "approval_policy": "never",
                        "approvals_reviewer": "user",
                        "model": "m",
                        "collaboration_mode": {
                            "mode": "default",
                            "settings": {"model": "m", "reasoning_effort": None, "developer_instructions": None},
                        },
                        "realtime_active": False,
                        "summary": "none",
                        "permission_profile": {"type": "disabled"},
                        "sandbox_policy": {"type": "danger-full-access"},
                    },
                ),
                (
                    "response_item",
                    {
                        "type": "message",
                        "id": "msg_ID1",
                        "role": "user",
                        "content": [
                            {
                                "type": "input_text",
                                "text": """\
@exec echo hi
@write a.txt text
@say Done.\
""",
                            }
                        ],
                        "internal_chat_message_metadata_passthrough": {"turn_id": "ID0"},
                    },
                ),
                (
                    "event_msg",
                    {
                        "type": "item_completed",
                        "thread_id": "ID2",
                        "turn_id": "ID0",
                        "item": {
                            "type": "UserMessage",
                            "id": "ID3",
                            "content": [
                                {
                                    "type": "text",
                                    "text": """\
@exec echo hi
@write a.txt text
@say Done.\
""",
                                    "text_elements": [],
                                }
                            ],
                        },
                        "started_at_ms": 0,
                        "completed_at_ms": 0,
                    },
                ),
                (
                    "response_item",
                    {
                        "type": "function_call",
                        "id": "fc_2_0",
                        "call_id": "call_2_0",
                        "name": "exec_command",
                        "arguments": '{"cmd": "echo hi"}',
                        "internal_chat_message_metadata_passthrough": {"turn_id": "ID0"},
                    },
                ),
                (
                    "event_msg",
                    {
                        "type": "item_completed",
                        "thread_id": "ID2",
                        "turn_id": "ID0",
                        "item": {
                            "type": "CommandExecution",
                            "id": "call_2_0",
                            "process_id": "process_id",
                            "command": ["/bin/bash", "-lc", "echo hi"],
                            "cwd": "file://CWD",
                            "parsed_cmd": [{"type": "unknown", "cmd": "echo hi"}],
                            "source": "unified_exec_startup",
                            "status": "completed",
                            "aggregated_output": "hi\n",
                            "exit_code": 0,
                            "duration": {"secs": 0, "nanos": 0},
                        },
                        "started_at_ms": 0,
                        "completed_at_ms": 0,
                    },
                ),
                (
                    "response_item",
                    {
                        "type": "function_call_output",
                        "id": "fco_ID4",
                        "call_id": "call_2_0",
                        "output": """\
Chunk ID: C
Wall time: T sec…\
""",
                        "internal_chat_message_metadata_passthrough": {"turn_id": "ID0"},
                    },
                ),
                (
                    "token_usage_record",
                    {
                        "thread_id": "ID2",
                        "turn_id": "ID0",
                        "session_id": "ID2",
                        "root_turn_id": "ID0",
                        "response_id": "resp_2",
                        "usage": "10 in, 5 out, 15 total",
                        "turn_token_usage": "10 in, 5 out, 15 total",
                        "thread_token_usage": "20 in, 10 out, 30 total",
                    },
                ),
                (
                    "event_msg",
                    {
                        "type": "token_count",
                        "info": {
                            "total_token_usage": "20 in, 10 out, 30 total",
                            "last_token_usage": "10 in, 5 out, 15 total",
                            "model_context_window": 258400,
                        },
                        "rate_limits": None,
                    },
                ),
                (
                    "response_item",
                    {
                        "type": "custom_tool_call",
                        "id": "ctc_3_0",
                        "call_id": "call_3_0",
                        "status": "completed",
                        "name": "apply_patch",
                        "input": """\
*** Begin Patch
*** Add File: a.txt
+text
*** End Patch
""",
                        "internal_chat_message_metadata_passthrough": {"turn_id": "ID0"},
                    },
                ),
                (
                    "event_msg",
                    {
                        "type": "item_completed",
                        "thread_id": "ID2",
                        "turn_id": "ID0",
                        "item": {
                            "type": "FileChange",
                            "id": "call_3_0",
                            "changes": {"CWD/a.txt": {"type": "add", "content": "text\n"}},
                            "status": "completed",
                            "stdout": """\
Success. Updated the following files:
A a.txt
""",
                            "stderr": "",
                        },
                        "started_at_ms": 0,
                        "completed_at_ms": 0,
                    },
                ),
                (
                    "response_item",
                    {
                        "type": "custom_tool_call_output",
                        "id": "ctco_ID5",
                        "call_id": "call_3_0",
                        "output": """\
Exit code: 0
Wall time: T se…\
""",
                        "internal_chat_message_metadata_passthrough": {"turn_id": "ID0"},
                    },
                ),
                (
                    "token_usage_record",
                    {
                        "thread_id": "ID2",
                        "turn_id": "ID0",
                        "session_id": "ID2",
                        "root_turn_id": "ID0",
                        "response_id": "resp_3",
                        "usage": "10 in, 5 out, 15 total",
                        "turn_token_usage": "20 in, 10 out, 30 total",
                        "thread_token_usage": "30 in, 15 out, 45 total",
                    },
                ),
                (
                    "event_msg",
                    {
                        "type": "token_count",
                        "info": {
                            "total_token_usage": "30 in, 15 out, 45 total",
                            "last_token_usage": "10 in, 5 out, 15 total",
                            "model_context_window": 258400,
                        },
                        "rate_limits": None,
                    },
                ),
                (
                    "event_msg",
                    {
                        "type": "item_completed",
                        "thread_id": "ID2",
                        "turn_id": "ID0",
                        "item": {
                            "type": "AgentMessage",
                            "id": "msg_4_0",
                            "content": [{"type": "Text", "text": "Done."}],
                        },
                        "started_at_ms": 0,
                        "completed_at_ms": 0,
                    },
                ),
                (
                    "response_item",
                    {
                        "type": "message",
                        "id": "msg_4_0",
                        "role": "assistant",
                        "content": [{"type": "output_text", "text": "Done."}],
                        "internal_chat_message_metadata_passthrough": {"turn_id": "ID0"},
                    },
                ),
                (
                    "token_usage_record",
                    {
                        "thread_id": "ID2",
                        "turn_id": "ID0",
                        "session_id": "ID2",
                        "root_turn_id": "ID0",
                        "response_id": "resp_4",
                        "usage": "10 in, 5 out, 15 total",
                        "turn_token_usage": "30 in, 15 out, 45 total",
                        "thread_token_usage": "40 in, 20 out, 60 total",
                    },
                ),
                (
                    "event_msg",
                    {
                        "type": "token_count",
                        "info": {
                            "total_token_usage": "40 in, 20 out, 60 total",
                            "last_token_usage": "10 in, 5 out, 15 total",
                            "model_context_window": 258400,
                        },
                        "rate_limits": None,
                    },
                ),
                (
                    "event_msg",
                    {
                        "type": "task_complete",
                        "root_turn_id": "ID0",
                        "turn_id": "ID0",
                        "last_agent_message": "Done.",
                        "started_at": 0,
                        "completed_at": 0,
                        "duration_ms": 0,
                        "time_to_first_token_ms": 0,
                    },
                ),
            ]
        )
        assert (workshop.project / "a.txt").read_text() == "text\n"


async def test_the_lines_of_a_patch_in_an_old_thread(workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.legacy()
        await house.say(thread, "@say Hello again.")
        before = len(house.lines(thread))
        await house.say(thread, "@exec echo hi\n@write a.txt text\n@say Done.")
        assert house.kinds(thread, before) == snapshot(
            [
                "task_started",
                "turn_context",
                "user message",
                "user_message",
                "function_call",
                "function_call_output",
                "token_usage_record",
                "token_count",
                "custom_tool_call",
                "patch_apply_end",
                "custom_tool_call_output",
                "token_usage_record",
                "token_count",
                "agent_message",
                "assistant message",
                "token_usage_record",
                "token_count",
                "task_complete",
            ]
        )
