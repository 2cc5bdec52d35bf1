"""clew and the real Codex take turns on one thread; the model is told the whole history once and in order."""

from __future__ import annotations

import signal
from collections.abc import Callable

import anyio
import pytest

from drivers import CLEW, Endpoint, Peer, Run, Talk, World, serving, sigkill, wait_until

pytestmark = pytest.mark.peer

NEW = "0.169.0"
OLD = "0.142.5"

Codex = Callable[[str], Peer]
MCP = (*CLEW, "mcp")


@pytest.mark.parametrize("version", [NEW, OLD])
def test_codex_starts_clew_replies_over_mcp_codex_resumes_clew_replies(
    codex: Codex, version: str, world: World, endpoint: Endpoint
) -> None:
    talk = Talk(world, endpoint)
    talk.codex(codex(version), "One.")

    async def replies(*texts: str) -> None:
        async with serving(world, MCP) as server:
            for text in texts:
                await talk.mcp(server, text)

    anyio.run(replies, "Two.", "Three.")
    talk.codex(codex(version), "Four.")
    anyio.run(replies, "Five.")
    assert [line[1] for line in talk.told if line[0] == "user"] == ["One.", "Two.", "Three.", "Four.", "Five."]


@pytest.mark.parametrize("version", [NEW, OLD])
def test_codex_starts_clew_exec_resumes_codex_resumes_clew_exec_resumes(
    codex: Codex, version: str, world: World, endpoint: Endpoint
) -> None:
    talk = Talk(world, endpoint)
    talk.codex(codex(version), "One.")
    talk.clew_exec("Two.")
    talk.codex(codex(version), "Three.")
    talk.clew_exec("Four.")


def test_a_server_that_stays_up_sees_what_codex_added_meanwhile(codex: Codex, world: World, endpoint: Endpoint) -> None:
    talk = Talk(world, endpoint)
    peer = codex(NEW)

    async def main() -> None:
        async with serving(world, MCP) as server:
            await talk.mcp(server, "One, by clew.")
            await anyio.to_thread.run_sync(talk.codex, peer, "Two, by Codex.")
            await talk.mcp(server, "Three, by clew.")

    anyio.run(main)
    talk.codex(peer, "Four, by Codex.")


def test_a_thread_of_an_old_version_goes_on_under_the_new_one_with_clew_between(
    codex: Codex, world: World, endpoint: Endpoint
) -> None:
    talk = Talk(world, endpoint)
    talk.codex(codex(OLD), "One.")
    talk.clew_exec("Two.")
    talk.codex(codex(NEW), "Three.")
    talk.clew_exec("Four.")
    talk.codex(codex(OLD), "Five.")


def test_a_thread_of_the_last_mcp_server_goes_on_in_ours_and_back(
    codex: Codex, world: World, endpoint: Endpoint
) -> None:
    talk = Talk(world, endpoint)

    async def main() -> None:
        async with serving(world, codex("0.153.4").mcp_server) as server:
            await talk.mcp(server, "One.")
            await talk.mcp(server, "Two.", "echo by-the-original")
        async with serving(world, MCP) as server:
            await talk.mcp(server, "Three.", "echo by-clew")

    anyio.run(main)
    talk.codex(codex(NEW), "Four.")
    talk.clew_exec("Five.")


@pytest.mark.parametrize("version", [NEW, OLD])
def test_commands_and_their_outputs_are_told_once_whoever_ran_them(
    codex: Codex, version: str, world: World, endpoint: Endpoint
) -> None:
    talk = Talk(world, endpoint)
    talk.codex(codex(version), "List.", "echo codex-$((40+1))")

    async def main() -> None:
        async with serving(world, MCP) as server:
            await talk.mcp(server, "Again.", "echo clew-$((40+2))", "echo clew-$((40+3))")

    anyio.run(main)
    talk.codex(codex(version), "And again.", "echo codex-$((40+4))")
    talk.clew_exec("The last.", "echo clew-$((40+5))")
    outputs = [line[2] for line in talk.told if line[0] == "output"]
    assert [next(word for word in output.split() if "-4" in word) for output in outputs] == [
        "codex-41",
        "clew-42",
        "clew-43",
        "codex-44",
        "clew-45",
    ]


@pytest.mark.parametrize("version", [NEW, OLD])
def test_a_codex_killed_in_mid_command_leaves_a_call_that_clew_closes_as_aborted(
    codex: Codex, version: str, world: World, endpoint: Endpoint
) -> None:
    talk = Talk(world, endpoint)
    talk.codex(codex(version), "One.")
    text = endpoint.on("Wait.", Run("touch started; sleep 60"))
    process = world.start(codex(version).exec_command(text, resume=talk.thread_id), log="killed.log")
    _wait_until_started(world)
    sigkill(process.pid)
    assert process.wait(10) == -signal.SIGKILL
    call_id = next(
        str(line["payload"]["call_id"])
        for line in world.lines(talk.thread_id)
        if line["type"] == "response_item" and line["payload"]["type"] == "function_call"
    )
    talk.cut_off(call_id, text)

    async def main() -> None:
        async with serving(world, MCP) as server:
            await talk.mcp(server, "Go on.")

    anyio.run(main)
    talk.codex(codex(version), "And on.")
    talk.clew_exec("To the end.")


def test_a_clew_killed_in_mid_command_leaves_a_call_that_codex_closes_as_aborted(
    codex: Codex, world: World, endpoint: Endpoint
) -> None:
    talk = Talk(world, endpoint)
    talk.clew_exec("One.")
    text = endpoint.on("Wait.", Run("touch started; sleep 60"))
    process = world.start((*CLEW, "exec", "--skip-git-repo-check", "resume", talk.thread_id, text), log="killed.log")
    _wait_until_started(world)
    sigkill(process.pid)
    process.wait(10)
    call_id = next(
        str(line["payload"]["call_id"])
        for line in world.lines(talk.thread_id)
        if line["type"] == "response_item" and line["payload"]["type"] == "function_call"
    )
    talk.cut_off(call_id, text)
    talk.codex(codex(NEW), "Go on.")
    talk.clew_exec("And on.")


@pytest.mark.parametrize("version", [NEW, OLD])
@pytest.mark.parametrize("mode", ["paginated", "legacy"])
def test_codex_goes_on_with_a_thread_of_clew_in_either_history_mode(
    codex: Codex, version: str, mode: str, world: World, endpoint: Endpoint
) -> None:
    if mode == "legacy":
        # Both programs write legacy where a thread is legacy; 0.142.5 knows nothing else, and a thread that clew forks
        # from one of its is written by clew alone.
        source = Talk(world, endpoint)
        source.codex(codex(OLD), "Zero.")
        talk = source.branch(_fork(world, source.thread_id))
        talk.clew_exec("One.", "echo in-legacy")
    else:
        talk = Talk(world, endpoint)
        talk.clew_exec("One.", "echo in-paginated")
    assert world.lines(talk.thread_id)[0]["payload"].get("history_mode", "legacy") == mode
    talk.clew_exec("Two.")
    talk.codex(codex(version), "Three.")
    talk.clew_exec("Four.")


@pytest.mark.parametrize("options", [(), ("--copy",)])
@pytest.mark.parametrize("version", [NEW, OLD])
def test_codex_goes_on_with_a_fork_that_clew_made(
    codex: Codex, version: str, options: tuple[str, ...], world: World, endpoint: Endpoint
) -> None:
    source = Talk(world, endpoint)
    source.codex(codex(version), "One.")
    source.clew_exec("Two.", "echo two")
    whole = source.branch(_fork(world, source.thread_id, *options))
    first_turn = next(
        str(line["payload"]["turn_id"])
        for line in world.lines(source.thread_id)
        if line["type"] == "event_msg" and line["payload"]["type"] == "task_started"
    )
    part = source.branch(_fork(world, source.thread_id, "--at", first_turn, *options), turns=1)
    counted = source.branch(_fork(world, source.thread_id, "--before", "-1", *options), turns=1)
    header = world.lines(whole.thread_id)[0]["payload"]
    assert ("history_base" in header) == (header.get("history_mode") == "paginated")
    assert not (options and "history_base" in header)
    for talk in (whole, part, counted):
        talk.codex(codex(NEW), "Three, in the fork.")
        talk.clew_exec("Four, in the fork.")
        if "history_base" not in header:  # versions before 0.158 know no references
            talk.codex(codex(OLD), "Five, in the fork.")
    source.codex(codex(version), "Three, in the source.")
    source.clew_exec("Four, in the source.")


def _fork(world: World, thread_id: str, *options: str) -> str:
    done = world.run((*CLEW, "fork", thread_id, *options))
    assert done.code == 0, done.err
    return done.out.strip()


def _wait_until_started(world: World) -> None:
    wait_until((world.work / "started").exists, "the command starts")
