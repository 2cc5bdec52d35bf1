"""Forks: exactly the history up to the cut, by reference and as a copy, whatever the source lies in."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.errors import BadRequest, LogDamaged, Owner
from clew.history import rebuild, turns
from clew.rollout import Line, Record
from clew.rollout.chain import parse_head
from clew.store import LocalStore
from clew.testing import Call, MemoryFileSystem, ThreadBuilder, memory_home, memory_store

pytestmark = pytest.mark.anyio
ME = Owner("clew test", 1)


def mode(store: LocalStore, thread_id: str) -> str:
    head = store.head(thread_id)
    assert head is not None
    return parse_head(head).history_mode


def told(store: LocalStore, thread_id: str) -> list[tuple[str, str, list[str]]]:
    """Per turn its id, its status, and what was said."""
    return [
        (turn.id, turn.status, [_text(item) for item in turn.items if item["type"] in ("userMessage", "agentMessage")])
        for turn in turns(store.read(thread_id), mode(store, thread_id))
    ]


def _text(item: dict[str, Any]) -> str:
    return item["text"] if "text" in item else item["content"][0]["text"]


def sent(store: LocalStore, thread_id: str) -> list[Any]:
    """What a request would carry."""
    return [item.value() for item in rebuild(store.read_back(thread_id), store.head(thread_id)).items]


def everything(fs: MemoryFileSystem) -> dict[Path, bytes]:
    return {file.path: fs.read_bytes(file.path) for file in memory_home(fs).files()}


SHAPES = ("plain", "compressed", "archived", "reverted")


def write(fs: MemoryFileSystem, shape: str, *, paginated: bool, count: int = 4) -> ThreadBuilder:
    built = ThreadBuilder("0.169", paginated=paginated)
    for number in range(count):
        built.turn(f"prompt {number}", f"answer {number}", calls=[Call("ls", f"{number}.txt\n")], reasoning="Hm.")
    if shape == "reverted" and paginated:
        built.revert(count - 1).turn("prompt again", "answer again")
    built.write(memory_home(fs), archived=shape == "archived", compressed=shape == "compressed")
    return built


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("paginated", [True, False])
@pytest.mark.parametrize("copy", [True, False])
async def test_a_fork_has_the_history_up_to_its_cut_and_its_source_is_as_it_was(
    shape: str, paginated: bool, copy: bool
) -> None:
    fs = MemoryFileSystem()
    store = memory_store(fs)
    source = write(fs, shape, paginated=paginated)
    before, whole = everything(fs), told(store, source.id)
    ids = [turn_id for turn_id, _, _ in whole]
    cuts: list[tuple[dict[str, str], int]] = [
        ({}, 4),
        ({"after_turn": ids[1]}, 2),
        ({"before_turn": ids[1]}, 1),
        ({"before_turn": ids[0]}, 0),
        ({"after_turn": "-1"}, 4),
        ({"before_turn": "-1"}, 3),
        ({"after_turn": "3"}, 3),
    ]
    for number, (cut, kept) in enumerate(cuts):
        fork = f"019f1d8c-e208-7000-8000-00000000000{number}"
        await store.fork(source.id, fork, copy=copy, **cut)
        assert told(store, fork) == whole[:kept]
        assert store.catalog.get(fork).forked_from == source.id
        referring = paginated and not copy
        assert mode(store, fork) == ("paginated" if referring else "legacy")
    assert sent(store, "019f1d8c-e208-7000-8000-000000000000") == sent(store, source.id)
    assert {path: data for path, data in everything(fs).items() if path in before} == before
    store.close()


async def test_a_copy_needs_no_other_file() -> None:
    fs = MemoryFileSystem()
    store = memory_store(fs)
    source = write(fs, "reverted", paginated=True)
    await store.fork(source.id, fork := "019f1d8c-e208-7000-8000-000000000001")
    await store.fork(fork, copied := "019f1d8c-e208-7000-8000-000000000002", copy=True)
    whole, request = told(store, source.id), sent(store, source.id)
    for file in memory_home(fs).files():
        if file.thread_id != copied:
            fs.unlink(file.path)
    assert told(store, copied) == whole
    assert sent(store, copied) == request
    head, *lines = [line for line in store.read(copied) if isinstance(line, Record)]
    assert all(line.ordinal is None for line in (head, *lines))
    # A second header would say that another file is read otherwise.
    assert "session_meta" not in {line.type for line in lines}
    store.close()


async def test_copied_lines_keep_their_bytes_and_times() -> None:
    fs = MemoryFileSystem()
    store = memory_store(fs)
    source = write(fs, "plain", paginated=False)
    path = Path(store.catalog.get(source.id).path)
    await store.fork(source.id, fork := "019f1d8c-e208-7000-8000-000000000001")
    _, _, rest = fs.read_bytes(Path(store.catalog.get(fork).path)).partition(b"\n")
    assert rest == fs.read_bytes(path)
    store.close()


async def test_a_copy_leaves_out_what_would_keep_others_from_reading_it() -> None:
    fs = MemoryFileSystem()
    store = memory_store(fs)
    built = ThreadBuilder("0.142").turn("one", "1").raw(b'{"timestamp":"x","type":"event_msg","payload":"\xff"}\n')
    built.raw(b"no json at all\n").turn("two", "2").torn(5)
    built.write(memory_home(fs))
    await store.fork(built.id, fork := "019f1d8c-e208-7000-8000-000000000001")
    data = fs.read_bytes(Path(store.catalog.get(fork).path))
    assert str(data, "utf-8").endswith("}\n")
    assert b"no json at all" not in data
    assert [said for _, _, said in told(store, fork)] == [["one", "1"], ["two", "2"]]
    store.close()


@pytest.mark.parametrize("paginated", [True, False])
@pytest.mark.parametrize("copy", [True, False])
@pytest.mark.parametrize("held", [True, False])
async def test_a_fork_in_the_middle_of_a_turn_says_that_it_was_interrupted(
    paginated: bool, copy: bool, held: bool
) -> None:
    fs = MemoryFileSystem()
    store, other = memory_store(fs), memory_store(fs, owner=Owner("codex", 2))
    built = ThreadBuilder("0.169", paginated=paginated).turn("one", "1").kill_during_call("two")
    built.write(memory_home(fs))
    before = everything(fs)
    async with other.lease(built.id, ME) if held else nullcontext():
        await store.fork(built.id, fork := "019f1d8c-e208-7000-8000-000000000001", copy=copy)
        await store.fork(built.id, earlier := "019f1d8c-e208-7000-8000-000000000002", copy=copy, before_turn="-1")
    assert [status for _, status, _ in told(store, fork)] == ["completed", "interrupted"]
    assert sent(store, fork)[-1]["content"][0]["text"].startswith("<turn_aborted>\nThis conversation was forked")
    assert rebuild(store.read_back(fork), store.head(fork)).open_turn_id is None
    # Cut before that turn there is nothing to be said.
    assert sent(store, earlier)[-1]["content"][0]["text"] == "1"
    assert {path: data for path, data in everything(fs).items() if path in before} == before
    store.close()
    other.close()


@pytest.mark.parametrize("paginated", [True, False])
async def test_a_turn_that_has_not_ended_is_no_last_one(paginated: bool) -> None:
    fs = MemoryFileSystem()
    store = memory_store(fs)
    built = ThreadBuilder("0.169", paginated=paginated).turn("one", "1").kill_during_call("two")
    built.write(memory_home(fs))
    for named, why in (("-1", "has not ended"), ("7", "2 turns, no turn 7"), ("nowhere", "no turn nowhere")):
        with pytest.raises(BadRequest, match=why):
            await store.fork(built.id, "019f1d8c-e208-7000-8000-000000000001", after_turn=named)
    assert len(list(memory_home(fs).files())) == 1
    store.close()


async def test_half_a_history_is_not_copied() -> None:
    fs = MemoryFileSystem()
    store = memory_store(fs)
    source = write(fs, "plain", paginated=True)
    await store.fork(source.id, fork := "019f1d8c-e208-7000-8000-000000000001")
    fs.unlink(Path(store.catalog.get(source.id).path))
    with pytest.raises(LogDamaged, match="the base of its history is missing"):
        await store.fork(fork, "019f1d8c-e208-7000-8000-000000000002", copy=True)
    store.close()


@dataclasses.dataclass(frozen=True)
class Step:
    source: int
    copy: bool
    at: int
    where: Literal["after_turn", "before_turn"] | None
    go_on: bool
    shape: Literal["as it is", "compressed", "archived"]


STEPS = st.builds(
    Step,
    source=st.integers(0, 9),
    copy=st.booleans(),
    at=st.integers(1, 9),
    where=st.sampled_from(["after_turn", "before_turn", None]),
    go_on=st.booleans(),
    shape=st.sampled_from(["as it is", "compressed", "archived"]),
)


@settings(max_examples=40, deadline=None)
@given(st.booleans(), st.lists(STEPS, min_size=1, max_size=6))
def test_forks_of_forks_keep_exactly_the_history_up_to_their_cuts(paginated: bool, chosen: list[Step]) -> None:
    anyio.run(_fork_again_and_again, paginated, chosen)


async def _fork_again_and_again(paginated: bool, chosen: list[Step]) -> None:
    fs = MemoryFileSystem()
    home = memory_home(fs)
    store = memory_store(fs)
    root = write(fs, "plain", paginated=paginated, count=3)
    model = {root.id: told(store, root.id)}
    for number, step in enumerate(chosen):
        source = list(model)[step.source % len(model)]
        have = model[source]
        at = min(step.at, len(have))
        cut = {step.where: str(at)} if step.where and at else {}
        kept = have if not cut else have[: at if step.where == "after_turn" else at - 1]
        fork = f"019f1d8c-e208-7000-8000-{number:012x}"
        await store.fork(source, fork, copy=step.copy, **cut)
        model[fork] = list(kept)
        if step.go_on:
            turn_id = f"019f1d8c-e208-7000-9000-{number:012x}"
            await _turn(store, fork, turn_id, f"prompt of {number}")
            model[fork].append((turn_id, "completed", [f"prompt of {number}"]))
        file = home.find(fork)
        assert file is not None
        if step.shape == "compressed":
            _compress(fs, file.current.path)
        elif step.shape == "archived":
            store.catalog.archive(fork)
        # All that were there are still what they were.
        assert {thread: told(store, thread) for thread in model} == model
    store.close()


async def _turn(store: LocalStore, thread_id: str, turn_id: str, said: str) -> None:
    def event(kind: str, **members: Any) -> Line:
        return Line("event_msg", {"type": kind, "turn_id": turn_id, **members})

    content: list[dict[str, Any]] = [{"type": "text", "text": said, "text_elements": []}]
    spoken = {
        "paginated": event("item_completed", item={"type": "UserMessage", "id": f"u-{turn_id}", "content": content}),
        "legacy": Line("event_msg", {"type": "user_message", "message": said}),
    }[mode(store, thread_id)]
    async with store.lease(thread_id, ME) as lease:
        await lease.append([event("task_started"), spoken, event("task_complete")])


def _compress(fs: MemoryFileSystem, path: Path) -> None:
    import zstandard

    file = fs.open_append(path.with_name(f"{path.name}.zst"), exclusive=True)
    file.write(zstandard.ZstdCompressor().compress(fs.read_bytes(path)))
    file.close()
    fs.unlink(path)
