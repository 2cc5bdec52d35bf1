"""Turns that do not simply complete: both programs must make the same history of them."""

from __future__ import annotations

import signal
from collections.abc import Callable

import anyio
import pytest

from drivers import CLEW, Endpoint, Peer, Run, Say, Talk, World, answer, serving, wait_until

pytestmark = pytest.mark.peer

Codex = Callable[[str], Peer]
NEW = "0.169.0"
MCP = (*CLEW, "mcp")
COMPACTING = ("-c", "model_auto_compact_token_limit=5")


def test_codex_goes_on_behind_a_compaction_by_clew(codex: Codex, world: World, endpoint: Endpoint) -> None:
    talk = Talk(world, endpoint)
    talk.clew_exec("One.", "echo one")
    _compacted(talk, (*CLEW, "exec", "--json", "--skip-git-repo-check", *COMPACTING, "resume", talk.thread_id))
    talk.codex(codex(NEW), "Three.")
    talk.clew_exec("Four.")
    talk.codex(codex(NEW), "Five.")


@pytest.mark.parametrize("version", [NEW, "0.142.5"])
def test_clew_goes_on_behind_a_compaction_by_codex(
    codex: Codex, version: str, world: World, endpoint: Endpoint
) -> None:
    talk = Talk(world, endpoint)
    talk.codex(codex(version), "One.", "echo one")
    binary = codex(version).binary
    _compacted(talk, (binary, "exec", "--json", "--skip-git-repo-check", *COMPACTING, "resume", talk.thread_id))
    talk.clew_exec("Three.")
    talk.codex(codex(version), "Four.")
    talk.clew_exec("Five.")


@pytest.mark.parametrize("version", [NEW, "0.142.5"])
def test_codex_goes_on_behind_a_compaction_that_was_asked_for_in_a_conversation(
    codex: Codex, version: str, world: World, endpoint: Endpoint
) -> None:
    talk = Talk(world, endpoint)
    talk.codex(codex(version), "One.", "echo one")
    seen = len(endpoint.requests)
    typed = ("sh", "-c", 'printf "/compact\\n" | "$@"', "-", *CLEW, "resume", talk.thread_id)
    done = world.run(typed)
    assert (done.code, done.out) == (0, ""), done.err
    (compaction,) = endpoint.requests[seen:]
    assert compaction.told[: len(talk.told)] == talk.told, "the compaction is told everything"
    text = endpoint.on("Two.", Say(answer("Two.")))
    codex(version).exec(world, text, resume=talk.thread_id)
    request = endpoint.requests[-1]
    first, summary, asked = request.told
    assert (first, asked) == (("user", "One."), ("user", "Two."))
    assert answer(compaction.users[-1]).strip() in summary[1]
    talk.told = [*request.told, ("assistant", answer("Two."))]
    talk.clew_exec("Three.")
    talk.codex(codex(version), "Four.")


def test_a_turn_that_clew_interrupts_is_the_same_to_codex(codex: Codex, world: World, endpoint: Endpoint) -> None:
    talk = Talk(world, endpoint)
    talk.clew_exec("One.")
    command = (*CLEW, "exec", "--skip-git-repo-check", "resume", talk.thread_id)
    _interrupted(talk, command)
    talk.codex(codex(NEW), "Three.")
    talk.clew_exec("Four.")


def test_a_turn_that_codex_interrupts_is_the_same_to_clew(codex: Codex, world: World, endpoint: Endpoint) -> None:
    talk = Talk(world, endpoint)
    talk.codex(codex(NEW), "One.")
    command = (codex(NEW).binary, "exec", "--skip-git-repo-check", "resume", talk.thread_id)
    _interrupted(talk, command)
    talk.clew_exec("Three.")
    talk.codex(codex(NEW), "Four.")


def test_a_turn_that_the_model_failed_is_the_same_to_codex(codex: Codex, world: World, endpoint: Endpoint) -> None:
    talk = Talk(world, endpoint)
    talk.clew_exec("One.")
    endpoint.refuse("Refused.")

    async def main() -> None:
        async with serving(world, MCP) as server:
            got = await server.reply(talk.thread_id, "Refused.")
            assert got.failed
            assert got.thread_id == talk.thread_id

    anyio.run(main)
    talk.told.append(("user", "Refused."))
    talk.codex(codex(NEW), "Two.")
    talk.clew_exec("Three.")


def _compacted(talk: Talk, command: tuple[str, ...]) -> None:
    """A turn that has to compact first."""
    endpoint = talk.endpoint
    seen = len(endpoint.requests)
    done = talk.world.run((*command, "Two."))
    assert done.code == 0, done.err
    compaction, request = endpoint.requests[seen:]
    assert compaction.told[: len(talk.told)] == talk.told, "the compaction is told everything"
    # Codex asks the new text behind the summary; clew, which records it first, in front of it.
    said = [text for text in request.users if text in {"One.", "Two."}]
    (summary,) = (text for text in request.users if text not in said)
    assert said == ["One.", "Two."]
    assert answer(compaction.users[-1]).strip() in summary, "the summary is what the model wrote"
    assert all(line[0] == "user" for line in request.told), "calls and answers are summed up"
    last = [event["item"]["text"] for event in done.events if event.get("item", {}).get("type") == "agent_message"]
    talk.told = [*request.told, ("assistant", last[-1])]


def _interrupted(talk: Talk, command: tuple[str, ...]) -> None:
    """A turn that is interrupted while its command runs."""
    world, endpoint = talk.world, talk.endpoint
    text = endpoint.on("Wait.", Run("touch started; sleep 60"), Say("Never said."))
    process = world.start((*command, text), log="interrupted.log")
    wait_until((world.work / "started").exists, "the command starts")
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 1
    items = [line["payload"] for line in world.lines(talk.thread_id) if line["type"] == "response_item"]
    calls = [item["call_id"] for item in items if item["type"] == "function_call"]
    outputs = [item for item in items if item["type"] == "function_call_output"]
    assert len(calls) == len(outputs) == 1, "an interruption answers the open call itself"
    talk.told += [("user", text), ("call", calls[0]), ("output", calls[0], outputs[0]["output"])]
