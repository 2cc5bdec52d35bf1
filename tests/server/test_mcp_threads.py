"""The thread tools and the resources."""

from __future__ import annotations

import json
from typing import Any

import mcp_types as types
import pytest
from mcp.client.session import ClientSession
from mcp.shared.exceptions import MCPError
from server_world import World, structured, text_of

pytestmark = pytest.mark.anyio

UNKNOWN = "00000000-0000-7000-8000-000000000000"


async def _start(session: ClientSession, prompt: str = "fix the hinge", **arguments: Any) -> str:
    return structured(await session.call_tool("codex", {"prompt": prompt, **arguments}))["threadId"]


async def test_threads_are_listed_by_filters_and_pages(world: World) -> None:
    async with world.session() as session:
        ids = [await _start(session, f"prompt {number}") for number in range(3)]
        elsewhere = await _start(session, "elsewhere", cwd="/elsewhere")

        async def listed(**arguments: Any) -> list[str]:
            page = structured(await session.call_tool("threads_list", arguments))
            return [thread["threadId"] for thread in page["threads"]]

        assert await listed() == [elsewhere, *reversed(ids)]
        assert await listed(cwd="/elsewhere") == [elsewhere]
        assert await listed(text="PROMPT 1") == [ids[1]]
        assert await listed(source=["exec", "cli"]) == []
        assert await listed(source="mcp", since="2026-01-01", until="2027-01-01T00:00:00+02:00") != []
        await session.call_tool("thread_archive", {"threadId": ids[0]})
        assert ids[0] not in await listed()
        assert await listed(archived=True) == [ids[0]]
        assert ids[0] in await listed(archived=None)
        first = structured(await session.call_tool("threads_list", {"limit": 2}))
        second = structured(await session.call_tool("threads_list", {"limit": 2, "cursor": first["nextCursor"]}))
        assert [len(first["threads"]), len(second["threads"]), second["nextCursor"]] == [2, 1, None]


async def test_a_listed_thread_is_shown_whole_and_as_a_line(world: World) -> None:
    async with world.session() as session:
        thread = await _start(session)
        result = await session.call_tool("threads_list", {})
        assert structured(result)["threads"] == [
            {
                "threadId": thread,
                "name": None,
                "preview": "fix the hinge",
                "cwd": str(world.work),
                "createdAt": "2026-07-01T12:00:00.000Z",
                "updatedAt": "2026-07-01T12:30:00.000Z",
                "archived": False,
                "source": "mcp",
                "model": world.fake.asked[0][2].model,
                "provider": "openai",
                "branch": None,
                "forkedFrom": None,
                "parentId": None,
                "path": f"/home/sessions/{thread}.jsonl",
                "error": None,
            }
        ]
        assert text_of(result) == f"{thread}  2026-07-01 12:30  fix the hinge  [{world.work}]"


@pytest.mark.parametrize(
    ("tool", "arguments", "text"),
    [
        ("threads_list", {"limit": 0}, "Invalid argument limit: expected a number from 1 to 200"),
        ("threads_list", {"limit": "5"}, "Invalid argument limit: expected a whole number"),
        ("threads_list", {"since": "yesterday"}, "Invalid argument since: expected a date or a time like "),
        ("threads_list", {"bogus": 1}, "Invalid argument bogus: unknown; known are cwd, "),
        ("threads_search", {}, "Invalid argument text: required"),
        ("thread_read", {}, "Invalid argument threadId: required"),
        ("thread_wait", {"threadId": UNKNOWN, "timeout": -1}, "Invalid argument timeout: expected a number of seconds"),
        ("thread_status", {"threadId": UNKNOWN}, f"Session not found for thread_id: {UNKNOWN}"),
        ("thread_wait", {"threadId": UNKNOWN}, f"Session not found for thread_id: {UNKNOWN}"),
        ("thread_interrupt", {"threadId": "nobody"}, "Session not found for thread_id: nobody"),
        ("thread_fork", {"threadId": "x", "afterTurn": "a", "beforeTurn": "b"}, "Invalid argument beforeTurn: "),
    ],
)
async def test_a_thread_tool_says_what_is_wrong(world: World, tool: str, arguments: dict[str, Any], text: str) -> None:
    async with world.session() as session:
        result = await session.call_tool(tool, arguments)
        assert result.is_error
        assert text_of(result).startswith(text)


async def test_text_is_searched_for(world: World) -> None:
    async with world.session() as session:
        thread = await _start(session)
        result = await session.call_tool("threads_search", {"text": "HINGE"})
        (hit,) = structured(result)["hits"]
        assert (hit["thread"]["threadId"], hit["where"], hit["snippet"]) == (thread, "user", "fix the hinge")
        assert text_of(await session.call_tool("threads_search", {"text": "nowhere"})) == "Nothing found."


async def test_a_thread_is_read_in_pages_and_long_texts_are_cut_unless_asked_for(world: World) -> None:
    long = "x" * 3000
    async with world.session() as session:
        thread = await _start(session, f"[[run:ls]][[say:{long}]]")
        await session.call_tool("codex-reply", {"threadId": thread, "prompt": "[[fail:broken]]"})
        first = await session.call_tool("thread_read", {"threadId": thread, "limit": 1})
        page = structured(first)
        (turn,) = page["turns"]
        assert (turn["status"], [item["type"] for item in turn["items"]]) == (
            "completed",
            ["userMessage", "commandExecution", "agentMessage"],
        )
        assert turn["items"][2]["text"].endswith("… [1000 characters left out]")
        assert "$ /bin/bash -lc 'ls'  (exit 0)\nout" in text_of(first)
        full = structured(await session.call_tool("thread_read", {"threadId": thread, "limit": 1, "full": True}))
        assert full["turns"][0]["items"][2]["text"] == long
        rest = structured(
            await session.call_tool("thread_read", {"threadId": thread, "limit": 1, "cursor": page["nextCursor"]})
        )
        assert [(turn["status"], turn["error"]) for turn in rest["turns"]] == [("failed", "broken")]
        assert rest["nextCursor"] is None
        newest = structured(await session.call_tool("thread_read", {"threadId": thread, "newestFirst": True}))
        assert [turn["status"] for turn in newest["turns"]] == ["failed", "completed"]


async def test_a_fork_is_a_new_thread_and_leaves_its_source_alone(world: World) -> None:
    async with world.session() as session:
        thread = await _start(session)
        await session.call_tool("codex-reply", {"threadId": thread, "prompt": "second"})
        first = world.fake.kept[thread].turns[0].id
        forked = structured(
            await session.call_tool("thread_fork", {"threadId": thread, "afterTurn": first, "name": "try"})
        )
        assert forked["forkedFrom"] == thread
        assert forked["threadId"] != thread
        reply = await session.call_tool("codex-reply", {"threadId": "try", "prompt": "x"})
        assert structured(reply)["threadId"] == forked["threadId"]
    assert [len(world.fake.kept[key].turns) for key in (thread, forked["threadId"])] == [2, 2]


async def test_a_thread_is_renamed_archived_and_brought_back(world: World) -> None:
    async with world.session() as session:
        thread = await _start(session)
        named = await session.call_tool("thread_rename", {"threadId": thread, "name": " hinge "})
        assert structured(named)["thread"]["name"] == "hinge"
        unnamed = await session.call_tool("thread_rename", {"threadId": thread})
        assert structured(unnamed)["thread"]["name"] is None
        await session.call_tool("thread_archive", {"threadId": thread})
        refused = await session.call_tool("codex-reply", {"threadId": thread, "prompt": "x"})
        assert refused.is_error
        assert structured(refused)["threadId"] == thread
        assert "thread_unarchive" in text_of(refused)
        back = await session.call_tool("thread_unarchive", {"threadId": thread})
        assert structured(back)["thread"]["archived"] is False
        assert not (await session.call_tool("codex-reply", {"threadId": thread, "prompt": "x"})).is_error


async def test_an_idle_thread_has_a_status(world: World) -> None:
    async with world.session() as session:
        thread = await _start(session, "[[say:T]]")
        status = structured(await session.call_tool("thread_status", {"threadId": thread}))
        text = status.pop("content")
    turn = world.fake.kept[thread].turns[0].id
    assert status == {
        "threadId": thread,
        "state": "idle",
        "turnId": turn,
        "turnStatus": "completed",
        "queued": 0,
        "owner": None,
        "lastMessage": "T",
        "waitingFor": [],
    }
    assert text == f"Thread {thread} is idle. Its last turn {turn} is completed.\n\nLast message:\nT"


async def test_threads_are_resources_that_are_listed_in_pages_and_read_in_two_forms(world: World) -> None:
    async with world.session() as session:
        thread = await _start(session, "[[say:T]]")
        resources = (await session.list_resources()).resources
        assert [str(resource.uri) for resource in resources] == ["clew://threads", f"clew://threads/{thread}"]
        templates = (await session.list_resource_templates()).resource_templates
        assert [template.uri_template for template in templates] == [
            "clew://threads{?format,limit,cursor}",
            "clew://threads/{id}{?format,limit,cursor}",
        ]

        async def read(uri: str) -> tuple[str | None, str]:
            (contents,) = (await session.read_resource(uri)).contents
            assert str(contents.uri) == uri
            return contents.mime_type, contents.model_dump()["text"]

        kind, text = await read("clew://threads?limit=1")
        assert kind == "application/json"
        assert [entry["threadId"] for entry in json.loads(text)["threads"]] == [thread]
        kind, text = await read(f"clew://threads/{thread}")
        page = json.loads(text)
        assert (page["thread"]["threadId"], len(page["turns"]), page["nextCursor"]) == (thread, 1, None)
        assert await read(f"codex://threads/{thread[:13]}") == (kind, text)
        kind, text = await read(f"clew://threads/{thread}?format=text")
        assert kind == "text/plain"
        assert text.endswith("User: [[say:T]]\nAgent: T")


async def test_long_lists_of_resources_have_pages(world: World) -> None:
    async with world.session() as session:
        for number in range(51):
            await _start(session, str(number))
        first = await session.list_resources()
        second = await session.list_resources(params=types.PaginatedRequestParams(cursor=first.next_cursor))
        assert (len(first.resources), len(second.resources), second.next_cursor) == (51, 1, None)


@pytest.mark.parametrize(
    ("uri", "code"),
    [
        (f"clew://threads/{UNKNOWN}", -32002),
        ("clew://elsewhere", -32002),
        ("https://threads", -32002),
        ("clew://threads?limit=x", -32602),
        ("clew://threads?bogus=1", -32602),
    ],
)
async def test_a_resource_that_is_not_there_is_an_error_with_its_code(world: World, uri: str, code: int) -> None:
    async with world.session() as session:
        with pytest.raises(MCPError) as caught:
            await session.read_resource(uri)
        assert (caught.value.error.code, caught.value.error.data) == (code, {"uri": uri})
