"""The bounded, backward reading must give what the plain forward one gives, whatever the log."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written import TIME, Backward, compacted, context, event, head_of, message, meta, said, written

from clew.history import rebuild, rebuild_forward, rebuild_from
from clew.rollout import MemorySource, scan_back, scan_forward
from clew.rollout.envelope import Line, encode_line

TURNS = st.sampled_from(["a", "b", "c"])
TEXTS = st.sampled_from(["one", "two", "<environment_context>x</environment_context>", "# hello"])
MESSAGES = st.builds(message, st.sampled_from(["user", "assistant", "developer"]), TEXTS)
STATES = st.dictionaries(st.sampled_from("pq"), st.none() | st.integers(0, 2) | st.just({"r": 1}), max_size=2)


ITEM = b'{"type":"message","role":"user","content":[{"type":"input_text","text":"hi"}]}'
KEPT = (
    "items",
    "recorded",
    "baseline",
    "world_state",
    "window",
    "last_turn_id",
    "open_turn_id",
    "history_mode",
    "session_id",
)


def applied(provider: str) -> Line:
    return event("thread_settings_applied", thread_settings={"model": "n", "model_provider_id": provider, "cwd": "/x"})


def calls(call_id: str, output: bool) -> Line:
    kind = "function_call_output" if output else "function_call"
    rest: dict[str, Any] = {"output": "ok"} if output else {"name": "f", "arguments": "{}"}
    return Line("response_item", {"type": kind, "call_id": call_id, **rest})


def compaction(items: list[dict[str, Any]], window: dict[str, Any]) -> Line:
    return compacted(*items, **window)


def summary_only(text: str) -> Line:
    return Line("compacted", {"message": text})


def marker(kind: str, turn: str | None) -> Line:
    return event(kind, turn_id=turn)


def rollback(count: int) -> Line:
    return event("thread_rolled_back", num_turns=count)


def at(turn: str, folder: str) -> Line:
    return context(turn, cwd=folder)


def world(full: bool, state: dict[str, Any]) -> Line:
    return Line("world_state", {"full": full, "state": state})


WINDOWS: list[dict[str, Any]] = [{}, {"window_number": 4, "window_id": "w"}, {"window_id": 9}]
LINES: st.SearchStrategy[Line] = st.one_of(
    st.builds(said, st.sampled_from(["user", "user", "assistant", "developer", "system"]), TEXTS),
    st.builds(calls, st.sampled_from("xy"), st.booleans()),
    st.builds(marker, st.sampled_from(["task_started", "task_complete"]), TURNS),
    st.builds(marker, st.just("turn_aborted"), TURNS | st.none()),
    st.builds(rollback, st.integers(0, 3)),
    st.builds(at, TURNS, st.sampled_from(["/u", "/v"])),
    st.builds(applied, st.sampled_from(["p1", "p2"])),
    st.builds(world, st.booleans(), STATES),
    st.builds(compaction, st.lists(MESSAGES, max_size=3), st.sampled_from(WINDOWS)),
    st.builds(summary_only, st.sampled_from(["", "summary"])),
    st.just(event("token_count", info=None)),
    st.just(event("user_message", message="hi")),
    st.just(event("thread_settings_applied", thread_settings=None)),
    st.just(Line("turn_context", "not an object")),
    st.just(Line("inter_agent_communication", {"author": "r", "recipient": "s", "content": "go"})),
    st.just(Line("future_thing", {"a": 1})),
)


@settings(max_examples=600, deadline=None)
@given(st.lists(LINES, max_size=40))
def test_bounded_and_full_reading_agree(lines: list[Line]) -> None:
    records = written(meta(model_provider="p0"), *lines)
    head = head_of(records)

    full = rebuild_forward(records, head)
    bounded = rebuild(reversed(records), head)

    for name in KEPT:
        assert getattr(bounded, name) == getattr(full, name), name
    assert bounded.request_items(openai=False) == full.request_items(openai=False)


@settings(max_examples=600, deadline=None)
@given(st.lists(LINES, max_size=40), st.sampled_from([1 << 18, 700, 64]), st.booleans())
def test_items_taken_out_of_their_lines_are_those_of_the_full_reading(
    lines: list[Line], block: int, ordinals: bool
) -> None:
    data = b"".join(
        encode_line(line, timestamp=TIME, ordinal=number if ordinals else None)
        for number, line in enumerate([meta(model_provider="p0"), *lines])
    )
    records = list(scan_forward(MemorySource(data)))
    head = head_of(records)

    full = rebuild_forward(records, head)
    quick = rebuild_from(lambda passes: scan_back(MemorySource(data), passes=passes, block=block), head)

    for name in KEPT:
        assert getattr(quick, name) == getattr(full, name), name
    bounded = rebuild(reversed(records), head)
    assert (quick.usage, quick.last_usage, quick.skipped) == (bounded.usage, bounded.last_usage, bounded.skipped)


@pytest.mark.parametrize(
    "line",
    [
        b'{"timestamp":"T","type":"response_item","payload":%s,"metadata":{"a":1}}' % ITEM,
        b'{"timestamp":"T","type":"response_item","payload":%s}\r' % ITEM,
        b'{"timestamp":"T","type":"response_item","payload":%s,}' % ITEM,
        b'{"timestamp":"T","type":"response_item","payload":%s}}' % ITEM,
        b'{"timestamp":"T","type":"response_item","payload":%s' % ITEM,
        b'{"timestamp":"T","type":"response_item","payload":null}',
        b'{"timestamp":"T","ordinal":01,"type":"response_item","payload":%s}' % ITEM,
        b'{"timestamp":"\xff","type":"response_item","payload":%s}' % ITEM,
        b'{"timestamp":"T","type":"response_item","payload":%s}' % ITEM.replace(b"hi", b"\xff"),
        b'{"timestamp":"T","type":"response_item","payload":%s}' % ITEM.replace(b"hi", b"\\ud800"),
        b'{"timestamp":"T","type":"response_item","payload":%s}' % ITEM.replace(b"hi", "hé".encode()),
        b'{"timestamp":"T","type":"response_item","payload":%s}' % ITEM.replace(b'"user"', b"7"),
        b'{"timestamp":"T","type":"response_item","payload":%s}' % ITEM.replace(b'"message"', b"NaN"),
    ],
)
@pytest.mark.parametrize("end", [b"", b"\n"])
def test_an_odd_line_is_taken_as_the_full_reading_takes_it(line: bytes, end: bytes) -> None:
    data = encode_line(meta(), timestamp=TIME, ordinal=None) + line + end
    records = list(scan_forward(MemorySource(data)))
    head = head_of(records)

    full = rebuild_forward(records, head)
    quick = rebuild_from(lambda passes: scan_back(MemorySource(data), passes=passes), head)

    assert quick.items == full.items
    assert quick.skipped == full.skipped


@settings(max_examples=200, deadline=None)
@given(st.lists(LINES, max_size=30), st.lists(LINES, min_size=1, max_size=10))
def test_what_stands_before_a_settled_compaction_is_never_read(old: list[Line], new: list[Line]) -> None:
    settled = [
        event("task_started", turn_id="z"),
        compacted(message("user", "kept")),
        context("z"),
        event("task_complete", turn_id="z"),
    ]
    records = written(meta(), *old, *settled, *new)
    back = Backward(records)

    rebuild(back, head_of(records))

    assert back.read <= len(settled) + len(new)
