"""Threads that clew compressed, in the hands of the real Codex: it reads them, lists them, and goes on with them."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from clew.rollout import RealFileSystem
from clew.rollout.framing import read_table
from drivers import CLEW, Endpoint, Peer, Talk, World

pytestmark = pytest.mark.peer

Codex = Callable[[str], Peer]

NEW, OLD = "0.169.0", "0.142.5"


def _compress(world: World, *words: str, code: int = 0) -> str:
    done = world.run((*CLEW, "compress", *words))
    assert done.code == code, done.err
    return done.err


def _forms(world: World, thread_id: str) -> list[str]:
    return [path.suffix for path in world.home.rglob(f"rollout-*{thread_id}*")]


@pytest.mark.parametrize("version", [NEW, OLD])
def test_codex_and_clew_take_turns_on_a_thread_that_is_compressed_between_them(
    codex: Codex, version: str, world: World, endpoint: Endpoint
) -> None:
    talk = Talk(world, endpoint)
    talk.codex(codex(version), "One.", "echo one")
    for text in ("Two, by Codex.", "Three, by Codex."):
        _compress(world, talk.thread_id)
        assert _forms(world, talk.thread_id) == [".zst"]
        talk.codex(codex(version), text)
        assert _forms(world, talk.thread_id) == [".jsonl"]
    _compress(world, talk.thread_id)
    talk.clew_exec("Four, by clew.")
    assert _forms(world, talk.thread_id) == [".jsonl"]


@pytest.mark.parametrize("version", [NEW, OLD])
def test_codex_reads_many_frames_as_it_reads_the_plain_file(
    codex: Codex, version: str, world: World, endpoint: Endpoint
) -> None:
    talk = Talk(world, endpoint)
    talk.codex(codex(version), "One.")
    talk.clew_exec("Two.", "echo two")
    (plain,) = world.rollouts(talk.thread_id)
    lines = plain.read_bytes().splitlines(keepends=True)
    filler = (
        b'{"timestamp":"2026-07-01T12:00:00.000Z","type":"event_msg","payload":{"type":"unknown_%d","text":"%s"}}\n'
    )
    # What no program knows is passed over, and fills frames.
    plain.write_bytes(b"".join([lines[0], *(filler % (n, b"x" * 900_000) for n in range(4)), *lines[1:]]))
    with codex(version).app_server(world) as server:
        before = server.call("thread/read", {"threadId": talk.thread_id, "includeTurns": True})
    _compress(world, talk.thread_id)
    (packed,) = world.home.rglob(f"*{talk.thread_id}*.zst")
    table = read_table(RealFileSystem().open_read(packed))
    assert table is not None
    assert len(table.pieces) > 3
    with codex(version).app_server(world) as server:
        after = server.call("thread/read", {"threadId": talk.thread_id, "includeTurns": True})
        listed = server.call("thread/list", {"limit": 10, "sourceKinds": ["exec"]})
    assert after == before
    assert [thread["id"] for thread in listed["data"]] == [talk.thread_id]
    talk.codex(codex(version), "And on.")


def test_a_thread_that_codex_has_open_is_passed_over(codex: Codex, world: World, endpoint: Endpoint) -> None:
    talk = Talk(world, endpoint)
    talk.codex(codex(NEW), "One.")
    with codex(NEW).app_server(world) as server:
        server.call("thread/resume", {"threadId": talk.thread_id})
        assert "is being written by codex" in _compress(world, talk.thread_id, code=1)
        assert _forms(world, talk.thread_id) == [".jsonl"]
    _compress(world, talk.thread_id)
    assert _forms(world, talk.thread_id) == [".zst"]


def test_a_thread_that_a_codex_without_locks_has_open_is_passed_over(
    codex: Codex, world: World, endpoint: Endpoint
) -> None:
    talk = Talk(world, endpoint)
    talk.codex(codex(OLD), "One.")
    with codex(OLD).app_server(world) as server:
        server.call("thread/resume", {"threadId": talk.thread_id})
        assert "open in another program" in _compress(world, talk.thread_id, code=1)
        assert _forms(world, talk.thread_id) == [".jsonl"]
    _compress(world, talk.thread_id)
    talk.codex(codex(OLD), "Two.")


def test_a_fork_reads_its_compressed_source(codex: Codex, world: World, endpoint: Endpoint) -> None:
    source = Talk(world, endpoint)
    source.codex(codex(NEW), "One.")
    source.codex(codex(NEW), "Two.")
    done = world.run((*CLEW, "fork", source.thread_id))
    fork = source.branch(done.out.strip())
    _compress(world, source.thread_id)
    fork.clew_exec("Three, in the fork, by clew.")
    fork.codex(codex(NEW), "Four, in the fork, by Codex.")
    assert _forms(world, source.thread_id) == [".zst"]


def test_the_zstd_program_unpacks_what_clew_packed(
    codex: Codex, world: World, endpoint: Endpoint, tmp_path: Path
) -> None:
    if shutil.which("zstd") is None:
        pytest.skip("no zstd program here")
    talk = Talk(world, endpoint)
    talk.codex(codex(NEW), "One.")
    (plain,) = world.rollouts(talk.thread_id)
    text = plain.read_bytes()
    _compress(world, talk.thread_id)
    packed = plain.with_name(f"{plain.name}.zst")
    assert subprocess.run(["zstd", "-dc", str(packed)], capture_output=True, check=True).stdout == text
