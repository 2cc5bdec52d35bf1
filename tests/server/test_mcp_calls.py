"""`codex` and `codex-reply` as clients of the older server know them, and what they can do beyond."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from server_fakes import HOLDER
from server_world import World, structured, text_of

from clew.events import TurnInput
from clew.settings import ApprovalPolicy, SandboxMode

pytestmark = pytest.mark.anyio

UNKNOWN = "00000000-0000-7000-8000-000000000000"
PARSE = "Failed to parse configuration for Codex tool: "
LOAD = "Failed to load Codex configuration from overrides: "
CHARACTER = (
    "Failed to parse thread_id: invalid character: expected an optional prefix of `urn:uuid:` followed by [0-9a-fA-F-]"
)
FIELDS = (
    "`prompt`, `model`, `cwd`, `approval-policy`, `sandbox`, `config`, `base-instructions`, `developer-instructions`, "
    "`compact-prompt`"
)
MODES = "`read-only`, `workspace-write`, `danger-full-access`"


async def test_a_call_answers_with_the_last_message_and_its_mirror(world: World) -> None:
    async with world.session() as session:
        first = await session.call_tool("codex", {"prompt": "hi [[say:Noted.]]"})
        thread = structured(first)["threadId"]
        assert text_of(first) == "Noted."
        assert first.structured_content == {"threadId": thread, "content": "Noted."}
        second = await session.call_tool("codex-reply", {"threadId": thread, "prompt": "and? [[say:Still.]]"})
        assert second.structured_content == {"threadId": thread, "content": "Still."}
        third = await session.call_tool("codex-reply", {"conversationId": thread, "prompt": "x [[silent]]"})
        assert third.structured_content == {"threadId": thread, "content": ""}
    assert world.fake.closed


async def test_the_wire_shape_of_an_answer_is_that_of_the_older_server(world: World) -> None:
    async with world.talk() as talk:
        answer = await talk.answer(await talk.call("codex", prompt="[[say:T]]"))
        thread = answer["result"]["structuredContent"]["threadId"]
        assert answer["result"] == {
            "content": [{"type": "text", "text": "T"}],
            "structuredContent": {"threadId": thread, "content": "T"},
        }


@pytest.mark.parametrize(
    ("tool", "arguments", "text"),
    [
        ("codex", None, "Missing arguments for codex tool-call; the `prompt` field is required."),
        (
            "codex-reply",
            None,
            "Missing arguments for codex-reply tool-call; the `thread_id` and `prompt` fields are required.",
        ),
        ("codex", {}, f"{PARSE}missing field `prompt`"),
        ("codex-reply", {}, f"{PARSE}missing field `prompt`"),
        ("codex-reply", {"threadId": UNKNOWN}, f"{PARSE}missing field `prompt`"),
        ("codex", {"prompt": 5}, f"{PARSE}invalid type: number, expected a string"),
        ("codex", {"prompt": None}, f"{PARSE}invalid type: null, expected a string"),
        ("codex", {"prompt": "x", "config": "y"}, f'{PARSE}invalid type: string "y", expected a map'),
        ("codex", {"prompt": "x", "bogus": 1}, f"{PARSE}unknown field `bogus`, expected one of {FIELDS}"),
        ("codex", {"prompt": "x", "sandbox": "none"}, f"{PARSE}unknown variant `none`, expected one of {MODES}"),
        (
            "codex",
            {"prompt": "x", "approval-policy": "on-failure"},
            f"{PARSE}unknown variant `on-failure`, expected `on-request` or `never`",
        ),
        (
            "codex",
            {"prompt": "x", "config": {"model_provider": "nope"}},
            f"{LOAD}Model provider `nope` not found",
        ),
        (
            "codex",
            {"prompt": "x", "config": {"sandbox_mode": "bad"}},
            f"{LOAD}unknown variant `bad`, expected one of {MODES}\nin `sandbox_mode`\n",
        ),
        (
            "codex-reply",
            {"prompt": "x"},
            "Failed to parse thread_id: either threadId or conversationId must be provided",
        ),
        (
            "codex-reply",
            {"prompt": "x", "thread_id": UNKNOWN},
            "Failed to parse thread_id: either threadId or conversationId must be provided",
        ),
        (
            "codex-reply",
            {"threadId": "not-a-uuid", "prompt": "x"},
            f"{CHARACTER}, found `n` at 1",
        ),
        (
            "codex-reply",
            {"conversationId": "", "prompt": "x"},
            "Failed to parse thread_id: invalid length: expected length 32 for simple format, found 0",
        ),
        (
            "codex-reply",
            {"threadId": "last", "prompt": "x"},
            "There is no thread yet.",
        ),
        ("no-such-tool", {"prompt": "x"}, "Unknown tool 'no-such-tool'"),
    ],
)
async def test_what_is_wrong_with_arguments_is_said_in_the_old_words(
    world: World, tool: str, arguments: dict[str, Any] | None, text: str
) -> None:
    async with world.session() as session:
        result = await session.call_tool(tool, arguments)
        assert (text_of(result), result.is_error, result.structured_content) == (text, True, None)
    assert world.fake.asked == []


@pytest.mark.parametrize("extra", [{}, {"bogus": 1}, {"conversationId": "not-a-uuid"}])
async def test_an_unknown_thread_is_a_session_not_found(world: World, extra: dict[str, Any]) -> None:
    async with world.session() as session:
        result = await session.call_tool("codex-reply", {"threadId": UNKNOWN, "prompt": "x", **extra})
        text = f"Session not found for thread_id: {UNKNOWN}"
        assert (text_of(result), result.is_error) == (text, True)
        assert result.structured_content == {"threadId": UNKNOWN, "content": text}


async def test_ids_are_taken_in_every_spelling_and_answered_in_one(world: World) -> None:
    async with world.session() as session:
        thread = structured(await session.call_tool("codex", {"prompt": "x"}))["threadId"]
        for spelling in (thread.upper(), f"urn:uuid:{thread}", thread.replace("-", ""), f"{{{thread}}}"):
            result = await session.call_tool("codex-reply", {"threadId": spelling, "prompt": "x"})
            assert structured(result)["threadId"] == thread


async def test_a_reply_finds_its_thread_by_prefix_name_or_last(world: World) -> None:
    async with world.session() as session:
        thread = structured(await session.call_tool("codex", {"prompt": "x"}))["threadId"]
        await session.call_tool("thread_rename", {"threadId": thread, "name": "door hinge"})
        for reference in (thread[:13], "door hinge", "last"):
            result = await session.call_tool("codex-reply", {"threadId": reference, "prompt": "x"})
            assert structured(result)["threadId"] == thread


async def test_an_ambiguous_prefix_names_the_candidates(world: World) -> None:
    async with world.session() as session:
        ids = [structured(await session.call_tool("codex", {"prompt": "x"}))["threadId"] for _ in range(2)]
        world.fake.kept[ids[0]].name = world.fake.kept[ids[1]].name = "twin"
        result = await session.call_tool("codex-reply", {"threadId": "twin", "prompt": "x"})
        assert result.is_error
        assert all(thread in text_of(result) for thread in ids)


async def test_a_model_failure_is_an_error_answer_and_the_next_reply_gets_its_own(world: World) -> None:
    async with world.session() as session:
        failed = await session.call_tool("codex", {"prompt": "[[fail:the model failed]]"})
        thread = structured(failed)["threadId"]
        assert failed.is_error
        assert failed.structured_content == {"threadId": thread, "content": "the model failed"}
        better = await session.call_tool("codex-reply", {"threadId": thread, "prompt": "[[say:Better.]]"})
        assert text_of(better) == "Better."


async def test_a_thread_held_elsewhere_is_an_error_that_names_the_holder(world: World) -> None:
    async with world.session() as session:
        result = await session.call_tool("codex", {"prompt": "[[raise]]"})
        assert result.is_error
        assert structured(result)["owner"] == str(HOLDER)
        assert str(HOLDER) in text_of(result)


async def test_named_arguments_win_over_the_map_and_the_map_over_the_file(world: World) -> None:
    world.write_config('model = "filed"\nsandbox_mode = "danger-full-access"\n[clew]\ncodex_events = false\n')
    async with world.session() as session:
        await session.call_tool(
            "codex",
            {
                "prompt": "x",
                "model": "named",
                "cwd": "sub",
                "approval-policy": "untrusted",
                "effort": "high",
                "base-instructions": "B",
                "developer-instructions": "D",
                "compact-prompt": "C",
                "config": {"model": "mapped", "sandbox_mode": "read-only"},
            },
        )
        await session.call_tool("codex", {"prompt": "x"})
    named, plain = (settings for _, _, settings in world.fake.asked)
    assert (named.model, named.cwd, named.approval) == ("named", f"{world.work}/sub", ApprovalPolicy.UNTRUSTED)
    assert (named.sandbox.mode, named.effort) == (SandboxMode.READ_ONLY, "high")
    assert (named.base_instructions, named.developer_instructions, named.compact_prompt) == ("B", "D", "C")
    assert (plain.model, plain.sandbox.mode, plain.cwd) == ("filed", SandboxMode.FULL_ACCESS, str(world.work))


async def test_a_call_reads_the_configuration_anew(world: World) -> None:
    async with world.session() as session:
        world.write_config("model = 5\n")
        broken = await session.call_tool("codex", {"prompt": "x"})
        assert broken.is_error
        assert text_of(broken).startswith("Failed to load Codex configuration from overrides: ")
        assert "config.toml:1" in text_of(broken)
        world.write_config('model = "mended"\n')
        assert not (await session.call_tool("codex", {"prompt": "x"})).is_error
    assert world.fake.asked[0][2].model == "mended"


async def test_a_profile_is_where_a_thread_starts_from(world: World) -> None:
    world.write_config('model = "m"\n[profiles.deep]\nmodel = "deep"\n')
    async with world.session() as session:
        await session.call_tool("codex", {"prompt": "x", "profile": "deep"})
        missing = await session.call_tool("codex", {"prompt": "x", "profile": "none"})
        assert "there is no profile `none`" in text_of(missing)
    assert [settings.model for _, _, settings in world.fake.asked] == ["deep"]


async def test_only_what_a_reply_names_changes_the_thread_and_widening_is_told(world: World) -> None:
    async with world.session() as session:
        started = await session.call_tool("codex", {"prompt": "x", "sandbox": "read-only", "model": "first"})
        thread = structured(started)["threadId"]
        world.write_config('model = "other"\nsandbox_mode = "danger-full-access"\n[clew]\ncodex_events = false\n')
        quiet = await session.call_tool("codex-reply", {"threadId": thread, "prompt": "x"})
        assert "notices" not in structured(quiet)
        told = await session.call_tool(
            "codex-reply", {"threadId": thread, "prompt": "x", "sandbox": "workspace-write", "approvalPolicy": "never"}
        )
        assert structured(told)["notices"] == ["the sandbox was widened"]
        assert told.content[1].model_dump()["text"] == "Note: the sandbox was widened"
    settings = [(kept.model, kept.sandbox.mode, kept.approval) for _, _, kept in world.fake.asked]
    assert settings[1] == ("first", SandboxMode.READ_ONLY, ApprovalPolicy.ON_REQUEST)
    assert settings[2] == ("first", SandboxMode.WORKSPACE_WRITE, ApprovalPolicy.NEVER)


async def test_images_and_output_schema_reach_the_turn(world: World) -> None:
    (world.work / "a.png").write_bytes(base64.b64decode("iVBORw0KGgo="))
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    async with world.session() as session:
        images = ["data:image/png;base64,iVBORw0KGgo=", "https://example.org/b.png", "a.png"]
        await session.call_tool("codex", {"prompt": "look", "images": images, "output-schema": schema})
        gone = await session.call_tool("codex", {"prompt": "look", "images": ["b.png"]})
        assert text_of(gone) == f"Invalid argument images: there is no file {world.work}/b.png"
    assert [given for _, given, _ in world.fake.asked] == [
        TurnInput(
            text="look",
            images=tuple(images[:2]),
            local_images=(str(Path(world.work, "a.png")),),
            output_schema=schema,
            trigger="mcp",
        )
    ]


async def test_the_thread_id_can_stand_in_the_text_too(world: World) -> None:
    async with world.session() as session:
        result = await session.call_tool("codex", {"prompt": "[[say:T]]", "include-thread-id": True})
        thread = structured(result)["threadId"]
        assert text_of(result) == f"T\n\nthread {thread}"
        assert structured(result)["content"] == "T"


async def test_tools_are_listed_with_what_callers_of_the_older_server_rely_on(world: World) -> None:
    async with world.session() as session:
        tools = {tool.name: tool for tool in (await session.list_tools()).tools}
    codex, reply = tools["codex"], tools["codex-reply"]
    assert (codex.title, reply.title) == ("Codex", "Codex Reply")
    assert codex.input_schema["additionalProperties"] is False
    assert codex.input_schema["required"] == reply.input_schema["required"] == ["prompt"]
    assert set(FIELDS.replace("`", "").split(", ")) <= set(codex.input_schema["properties"])
    assert {"threadId", "conversationId", "prompt"} <= set(reply.input_schema["properties"])
    for tool in (codex, reply):
        assert tool.output_schema is not None
        assert tool.output_schema["required"] == ["threadId", "content"]
    assert all(tool.description and tool.annotations and tool.output_schema for tool in tools.values())


async def test_the_handshake_tells_a_version_that_is_really_spoken_and_happens_once(world: World) -> None:
    async with world.talk(version="1999-01-01") as talk:
        assert talk.hello["protocolVersion"] == "2025-11-25"
        assert talk.hello["serverInfo"] == {"name": "clew", "title": "clew", "version": "9"}
        assert "codex-reply" in talk.hello["instructions"]
        client = {"capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
        again = await talk.ask("initialize", {"protocolVersion": "2025-06-18", **client})
        assert again["error"] == {"code": -32600, "message": "initialize called more than once"}
