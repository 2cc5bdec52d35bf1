from __future__ import annotations

import json

import pytest

from clew.rollout import Home, Record, Skipped, materialise, parse_head, read_thread, scan_forward
from clew.rollout.source import MemorySource
from clew.testing.builders import ERAS, Call, Era, ThreadBuilder


def kinds(thread: ThreadBuilder) -> list[str]:
    return [payload.get("type", kind) if kind != "session_meta" else kind for kind, payload in thread.records]


@pytest.mark.parametrize("era", ERAS)
def test_every_line_of_every_era_is_a_record(era: Era) -> None:
    thread = ThreadBuilder(era).turn("a", "b", calls=[Call("ls", "x")], reasoning="hm")
    lines = list(scan_forward(MemorySource(thread.data)))
    assert not [line for line in lines if isinstance(line, Skipped)]
    assert [line.type for line in lines if isinstance(line, Record)] == [kind for kind, _ in thread.records]


@pytest.mark.parametrize("era", ERAS)
def test_the_same_calls_give_the_same_bytes(era: Era) -> None:
    def make(seed: int) -> bytes:
        return ThreadBuilder(era, seed=seed).turn("a", calls=[Call()]).data

    assert make(1) == make(1) != make(2)


def test_eras_mark_turns_as_they_did() -> None:
    said = {era: kinds(ThreadBuilder(era).turn("a", "b")) for era in ERAS}
    assert said["0.60"] == [
        "session_meta",
        "message",
        "message",
        "user_message",
        "turn_context",
        "agent_message",
        "message",
        "token_count",
    ]
    assert [era for era in ERAS if "task_started" in said[era]] == list(ERAS[5:])
    assert [era for era in ERAS if "item_completed" in said[era]] == ["0.158", "0.169"]
    assert said["0.29"] == ["session_meta", "message", "message", "message"]


def test_a_killed_turn_has_a_call_without_output_and_no_end() -> None:
    last = ThreadBuilder().turn("a").kill_during_call("b", Call("make")).records
    outputs = [payload for _, payload in last if payload.get("type") == "function_call_output"]
    calls = [payload for _, payload in last if payload.get("type") == "function_call"]
    assert (len(calls), outputs, json.loads(calls[0]["arguments"])) == (1, [], {"cmd": "make"})
    assert [payload["type"] for _, payload in last if payload.get("type") == "task_complete"] == ["task_complete"]


def test_a_copying_fork_holds_its_sources_lines(home: Home) -> None:
    parent = ThreadBuilder("0.142").turn("a").turn("b")
    whole, part = parent.fork(), parent.fork(before=1, id="01a1f852-4b6e-7350-840d-6db0bbee9b0a")
    assert whole.records[1:] == parent.records
    assert part.records[1:] == ThreadBuilder("0.142").turn("a").records
    assert part.records[0][1]["forked_from_id"] == parent.id
    assert whole.turn_ids == parent.turn_ids
    part.write(home)
    assert home.find(part.id) is not None


def test_bases_name_real_places(home: Home) -> None:
    thread = ThreadBuilder().turn("a").turn("b").revert(1)
    thread.write(home)
    head = parse_head(next(line for line in scan_forward(MemorySource(thread.data)) if isinstance(line, Record)))
    assert head.history_base is not None
    assert head.history_base.thread_id == thread.id
    prefix = thread.segments[0].data[: head.history_base.end_byte_offset]
    last = [line for line in scan_forward(MemorySource(prefix)) if isinstance(line, Record)][-1]
    assert last.ordinal == head.history_base.end_ordinal_exclusive - 1


def test_compaction_follows_the_era() -> None:
    def compacted(era: Era, replacement: bool | None = None) -> dict[str, object]:
        thread = ThreadBuilder(era).turn("a").compact("sum", replacement=replacement)
        return next(payload for kind, payload in thread.records if kind == "compacted")

    assert list(compacted("0.60")) == ["message"]
    assert list(compacted("0.104")) == ["message", "replacement_history"]
    assert list(compacted("0.104", False)) == ["message"]
    assert len(compacted("0.169")) == 6


def test_what_an_era_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="paginated"):
        ThreadBuilder("0.142").turn("a").revert(0)
    with pytest.raises(ValueError, match="bare"):
        ThreadBuilder("0.29").turn("a").compact("s")


def test_edited_bytes_are_what_is_written(home: Home) -> None:
    thread = ThreadBuilder("0.142").turn("a").edit(lambda data: data.replace(b"\n", b"\r\n")).raw(b"rubbish\n")
    thread.write(home, compressed=True)
    files = home.find(thread.id)
    assert files is not None
    assert [line.why[:17] for line in read_thread(home, files) if isinstance(line, Skipped)] == ["JSON is malformed"]
    materialise(home.fs, files.current, process=1)
