"""Threads that clew repaired: the real Codex goes on with them, and is told the whole history."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import zstandard

from clew.ids import uuid7_at
from clew.rollout import RolloutName
from drivers import CLEW, Endpoint, Peer, Talk, World

pytestmark = pytest.mark.peer

Codex = Callable[[str], Peer]

OTHER = uuid7_at(1_782_000_000_000, bytes(10))


def begun(codex: Codex, world: World, endpoint: Endpoint, by: str) -> tuple[Talk, Path]:
    """A thread of two turns, and its file. By Codex: its databases know it too."""
    talk = Talk(world, endpoint)
    for text, command in (("One.", "echo one"), ("Two.", "echo two")):
        if by == "codex":
            talk.codex(codex("0.169.0"), text, command)
        else:
            talk.clew_exec(text, command)
    (path,) = world.rollouts(talk.thread_id)
    return talk, path


def repair(world: World, *words: str) -> None:
    done = world.run((*CLEW, "repair", *words))
    assert done.code == 0, done.err
    assert "done" in done.out, done.out
    checked = world.run((*CLEW, "check", "--json"))
    codes = {each["code"] for each in json.loads(checked.out)["findings"] if each["severity"] != "info"}
    # Codex leaves the rights of its files to the umask.
    assert codes <= {"mode-too-wide"}, codes


def goes_on(codex: Codex, talk: Talk) -> None:
    talk.codex(codex("0.169.0"), "And by Codex.", "echo codex")
    talk.clew_exec("And by clew.", "echo clew")
    talk.codex(codex("0.169.0"), "And by Codex once more.")


def edited(path: Path, number: int, **changes: Any) -> None:
    """Change members of one line (from 0); None takes one away."""
    lines = path.read_bytes().splitlines(keepends=True)
    line = json.loads(lines[number]) | changes
    lines[number] = msgspec.json.encode({key: value for key, value in line.items() if value is not None}) + b"\n"
    path.write_bytes(b"".join(lines))


@pytest.mark.parametrize("by", ["codex", "clew"])
def test_without_its_torn_tail(codex: Codex, world: World, endpoint: Endpoint, by: str) -> None:
    talk, path = begun(codex, world, endpoint, by)
    path.write_bytes(path.read_bytes()[:-20] + b"\xc3")
    repair(world, "drop-torn-tail")
    goes_on(codex, talk)


def test_without_its_torn_tail_in_a_compressed_file(codex: Codex, world: World, endpoint: Endpoint) -> None:
    talk, path = begun(codex, world, endpoint, "clew")
    packed = path.with_name(f"{path.name}.zst")
    packed.write_bytes(zstandard.compress(path.read_bytes()[:-20]))
    packed.chmod(0o600)
    path.unlink()
    repair(world, "drop-torn-tail")
    assert packed.exists()
    goes_on(codex, talk)


@pytest.mark.parametrize("by", ["codex", "clew"])
@pytest.mark.parametrize("ordinal", [None, 3, 500])
def test_numbered_anew(codex: Codex, world: World, endpoint: Endpoint, by: str, ordinal: int | None) -> None:
    talk, path = begun(codex, world, endpoint, by)
    edited(path, -1, ordinal=ordinal)
    repair(world, "renumber", talk.thread_id)
    goes_on(codex, talk)


@pytest.mark.parametrize("by", ["codex", "clew"])
@pytest.mark.parametrize("changes", [{"end_byte_offset": 10_000_000}, {"end_byte_offset": 77}])
def test_with_its_base_corrected(
    codex: Codex, world: World, endpoint: Endpoint, by: str, changes: dict[str, int]
) -> None:
    talk, _ = begun(codex, world, endpoint, by)
    fork = _fork(world, talk)
    (path,) = world.rollouts(fork.thread_id)
    meta = json.loads(path.read_bytes().splitlines()[0])["payload"]
    meta["history_base"] |= changes
    edited(path, 0, payload=meta)
    repair(world, "reattach-base", fork.thread_id)
    goes_on(codex, fork)


def test_with_its_base_found_again(codex: Codex, world: World, endpoint: Endpoint) -> None:
    talk, path = begun(codex, world, endpoint, "clew")
    fork = _fork(world, talk)
    (world.home / "elsewhere").mkdir()
    path.rename(world.home / "elsewhere" / f"{path.name}.bak")
    repair(world, "reattach-base", fork.thread_id)
    goes_on(codex, fork)


@pytest.mark.parametrize("by", ["codex", "clew"])
def test_without_the_tail_of_another_thread(codex: Codex, world: World, endpoint: Endpoint, by: str) -> None:
    talk, path = begun(codex, world, endpoint, by)
    other, tail = begun(codex, world, endpoint, "clew")
    due = len(path.read_bytes().splitlines())
    lines = [json.loads(line) for line in tail.read_bytes().splitlines()]
    with path.open("ab") as file:
        for line in lines:
            file.write(msgspec.json.encode(line | {"ordinal": line["ordinal"] + due}) + b"\n")
    tail.unlink()
    repair(world, "split-foreign-tail")
    goes_on(codex, talk)
    goes_on(codex, other)


def test_by_a_name_in_an_index_that_was_rebuilt(codex: Codex, world: World, endpoint: Endpoint) -> None:
    talk, _ = begun(codex, world, endpoint, "clew")
    assert world.run((*CLEW, "rename", talk.thread_id, "kept")).code == 0
    with (world.home / "session_index.jsonl").open("ab") as file:
        file.write(b'{"id":"' + OTHER.encode() + b'","thread_name":"gone","updated_at":""}\n{"id":"torn\n')
    repair(world, "rebuild-names")
    done = codex("0.169.0").exec(world, "Three.", resume="kept")
    assert done.thread_id == talk.thread_id
    assert endpoint.requests[-1].told == [*talk.told, ("user", "Three.")]


def test_without_locks_of_the_dead(codex: Codex, world: World, endpoint: Endpoint) -> None:
    talk, _ = begun(codex, world, endpoint, "clew")
    (world.home / "thread-writer-locks" / f"{talk.thread_id}.lock").touch()
    repair(world, "drop-stale-locks")
    goes_on(codex, talk)


def test_as_it_was_when_the_repair_is_undone(codex: Codex, world: World, endpoint: Endpoint) -> None:
    talk, path = begun(codex, world, endpoint, "codex")
    edited(path, 5, ordinal=4)
    before = path.read_bytes()
    repair(world, "renumber")
    assert path.read_bytes() != before
    (backup,) = (world.root / "clew-home" / "backups").iterdir()
    assert world.run((*CLEW, "repair", "undo", backup.name)).code == 0
    assert path.read_bytes() == before
    goes_on(codex, talk)


def _fork(world: World, talk: Talk) -> Talk:
    done = world.run((*CLEW, "fork", talk.thread_id))
    assert done.code == 0, done.err
    name = RolloutName.parse(world.rollouts(done.out.strip())[0].name)
    assert name is not None
    return talk.branch(name.thread_id)
