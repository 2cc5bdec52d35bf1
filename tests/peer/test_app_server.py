"""What the real app-server makes of clew's threads, and how the two keep out of each other's way."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from clew.testing.endpoint import Gate
from drivers import CLEW, Endpoint, Peer, PeerError, Say, Talk, World, answer, serving

pytestmark = pytest.mark.peer

Codex = Callable[[str], Peer]
MCP = (*CLEW, "mcp")
ALL_KINDS = ["cli", "vscode", "exec", "appServer", "unknown"]


def test_it_lists_threads_of_clew_with_their_first_words(codex: Codex, world: World, endpoint: Endpoint) -> None:
    by_exec, by_mcp = Talk(world, endpoint), Talk(world, endpoint)
    by_exec.clew_exec("From the terminal.")

    async def main() -> None:
        async with serving(world, MCP) as server:
            await by_mcp.mcp(server, "Over MCP.")

    anyio.run(main)
    with codex("0.169.0").app_server(world) as app:
        rows: list[dict[str, Any]] = app.call("thread/list", {"sourceKinds": ALL_KINDS})["data"]
    assert {
        row["id"]: [row[key] for key in ("preview", "source", "historyMode", "cwd", "modelProvider")] for row in rows
    } == {
        by_exec.thread_id: ["From the terminal.", "exec", "paginated", str(world.work), "mock"],
        by_mcp.thread_id: ["Over MCP.", "appServer", "paginated", str(world.work), "mock"],
    }


def test_it_shows_the_name_that_clew_gave_to_a_legacy_thread(codex: Codex, world: World, endpoint: Endpoint) -> None:
    talk = Talk(world, endpoint)
    talk.codex(codex("0.142.5"), "One.")
    _rename(talk, "named by clew")
    with codex("0.169.0").app_server(world) as app:
        rows = app.call("thread/list", {"sourceKinds": ALL_KINDS})["data"]
    assert [row["name"] for row in rows] == ["named by clew"]


@pytest.mark.parametrize("starts", ["clew", "0.142.5"])
def test_codex_resumes_by_the_name_that_clew_gave(codex: Codex, starts: str, world: World, endpoint: Endpoint) -> None:
    # Of a paginated thread Codex shows a name only from its own database, but it finds the thread by ours.
    talk = Talk(world, endpoint)
    if starts == "clew":
        talk.clew_exec("One.")
    else:
        talk.codex(codex(starts), "One.")
    _rename(talk, "named by clew")
    done = codex("0.169.0").exec(world, "Two.", resume="named by clew")
    assert done.thread_id == talk.thread_id
    assert endpoint.requests[-1].told == [*talk.told, ("user", "Two.")]


def test_it_reads_turns_and_items_of_clew(codex: Codex, world: World, endpoint: Endpoint) -> None:
    talk = Talk(world, endpoint)
    talk.clew_exec("One.")
    talk.clew_exec("Two.", "echo two", "exit 3")
    talk.codex(codex("0.169.0"), "Three.", "echo three")
    with codex("0.169.0").app_server(world) as app:
        turns = app.call("thread/read", {"threadId": talk.thread_id, "includeTurns": True})["thread"]["turns"]
    assert [(turn["status"], [_said(item) for item in turn["items"]]) for turn in turns] == [
        ("completed", ["One.", "Re: One."]),
        ("completed", ["Two.", ("completed", 0, "two\n"), ("failed", 3, None), "Re: Two."]),
        ("completed", ["Three.", ("completed", 0, "three\n"), "Re: Three."]),
    ]


def test_it_reads_a_thread_that_clew_wrote_in_legacy_mode(codex: Codex, world: World, endpoint: Endpoint) -> None:
    talk = Talk(world, endpoint)
    talk.codex(codex("0.142.5"), "One.")
    talk.clew_exec("Two.", "echo two")
    with codex("0.169.0").app_server(world) as app:
        turns = app.call("thread/read", {"threadId": talk.thread_id, "includeTurns": True})["thread"]["turns"]
    texts = [[_said(item) for item in turn["items"] if item["type"] != "commandExecution"] for turn in turns]
    assert texts == [["One.", "Re: One."], ["Two.", "Re: Two."]]


def test_a_name_given_by_codex_is_the_name_in_clew(codex: Codex, world: World, endpoint: Endpoint) -> None:
    talk = Talk(world, endpoint)
    talk.clew_exec("One.")
    with codex("0.169.0").app_server(world) as app:
        app.call("thread/name/set", {"threadId": talk.thread_id, "name": "a name by Codex"})
    done = world.run((*CLEW, "list", "--json", "--limit", "0"))
    assert done.code == 0, done.err
    assert "a name by Codex" in done.out
    talk.clew_exec("Two.")


def test_a_thread_that_codex_holds_is_busy_for_clew_which_names_the_holder(
    codex: Codex, world: World, endpoint: Endpoint
) -> None:
    talk = Talk(world, endpoint)
    talk.clew_exec("One.")
    with codex("0.169.0").app_server(world) as app:
        app.call("thread/resume", {"threadId": talk.thread_id, "cwd": str(world.work)})

        async def refused() -> None:
            async with serving(world, MCP) as server:
                got = await server.reply(talk.thread_id, "Now?")
                assert got.failed
                assert got.thread_id == talk.thread_id
                assert talk.thread_id in got.text
                assert f"pid {app.pid}" in got.text

        anyio.run(refused)
        done = world.run((*CLEW, "exec", "--skip-git-repo-check", "resume", talk.thread_id, "Now?"))
        assert done.code == 1
        assert f"pid {app.pid}" in done.err
        app.call("turn/start", {"threadId": talk.thread_id, "input": [{"type": "text", "text": "Two."}]})
        app.wait_for("turn/completed")
    talk.told += [("user", "Two."), ("assistant", answer("Two."))]
    talk.clew_exec("Three.")


def test_a_thread_whose_turn_clew_runs_is_busy_for_codex(codex: Codex, world: World, endpoint: Endpoint) -> None:
    talk = Talk(world, endpoint)
    peer = codex("0.169.0")
    talk.clew_exec("One.")
    gate = Gate()
    text = endpoint.on("Long.", Say("At last.", gate))

    async def main() -> None:
        async with serving(world, MCP) as server, anyio.create_task_group() as group:

            async def reply() -> None:
                got = await server.reply(talk.thread_id, text)
                assert (got.text, got.failed) == ("At last.", False)

            group.start_soon(reply)
            await anyio.to_thread.run_sync(gate.wait_reached)
            command = peer.exec_command("Me too.", resume=talk.thread_id)
            done = await anyio.to_thread.run_sync(world.run, command)
            assert done.code == 1
            assert f"thread {talk.thread_id} already has an active writer" in done.err
            with peer.app_server(world) as app, pytest.raises(PeerError, match="already has an active writer"):
                app.call("thread/resume", {"threadId": talk.thread_id})
            gate.release()
        # The server may stay: between turns it holds nothing.

    anyio.run(main)
    talk.told += [("user", text), ("assistant", "At last.")]
    talk.codex(peer, "Three.")


def test_codex_takes_its_turn_while_the_server_of_clew_stays_up(codex: Codex, world: World, endpoint: Endpoint) -> None:
    talk = Talk(world, endpoint)
    peer = codex("0.169.0")

    async def main() -> None:
        async with serving(world, MCP) as server:
            await talk.mcp(server, "One.")
            with peer.app_server(world) as app:
                await anyio.to_thread.run_sync(_turn, app, talk, "Two.")
            await talk.mcp(server, "Three.", "echo three")

    anyio.run(main)
    talk.codex(peer, "Four.")


def _rename(talk: Talk, name: str) -> None:
    done = talk.world.run((*CLEW, "rename", talk.thread_id, name))
    assert done.code == 0, done.err


def _turn(app: Any, talk: Talk, text: str) -> None:
    app.call("thread/resume", {"threadId": talk.thread_id, "cwd": str(talk.world.work)})
    app.call("turn/start", {"threadId": talk.thread_id, "input": [{"type": "text", "text": text}]})
    app.wait_for("turn/completed")
    assert talk.endpoint.requests[-1].told == [*talk.told, ("user", text)]
    talk.told += [("user", text), ("assistant", answer(text))]


def _said(item: dict[str, Any]) -> Any:
    match item["type"]:
        case "userMessage":
            return "".join(part["text"] for part in item["content"])
        case "agentMessage":
            return item["text"]
        case "commandExecution":
            return item["status"], item["exitCode"], item["aggregatedOutput"]
        case _:
            return json.dumps(item)
