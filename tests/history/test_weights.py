"""Where the bytes of a file are: every byte under one cause, and under the right one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from written import TIME, compacted, context, event, item, message, meta, said, started

from clew.history.weights import CAUSES, Weights, image_bytes
from clew.rollout import Home, RealFileSystem, payload_kind
from clew.rollout.envelope import Line, Record, decode_line, encode_line
from clew.testing.homes import write_every_shape

PICTURE = "data:image/png;base64," + "iVBOR" * 200


def weighed(line: Line, *, copied: bool = False) -> dict[str, int]:
    """The causes of one line, by name; those without bytes left out."""
    data = encode_line(line, timestamp=TIME, ordinal=None)
    weights = Weights.of([(data.rstrip(b"\n"), decode_line(data.rstrip(b"\n")))], copied_until=1 if copied else 0)
    assert weights.total == len(data)
    return {cause: size for cause, size in weights.items() if size}


@pytest.mark.parametrize(
    ("cause", "line"),
    [
        ("tool_output", item("function_call_output", call_id="1", output="x")),
        ("tool_output", item("custom_tool_call_output", call_id="1", output="x")),
        ("tool_calls", item("function_call", name="x", arguments="{}", call_id="1")),
        ("messages", said("user", "x")),
        ("messages", said("assistant", "x")),
        ("messages", item("agent_message", author="a", content=[])),
        ("messages", Line("inter_agent_communication", {"author": "a"})),
        ("context", said("developer", "x")),
        ("context", meta()),
        ("context", context("1")),
        ("context", Line("world_state", {"full": True, "state": {}})),
        ("reasoning", item("reasoning", encrypted_content="x" * 1000)),
        ("compactions", compacted(message("user", "x" * 1000))),
        ("compactions", item("compaction", encrypted_content="x")),
        ("events", event("user_message", message="x")),
        ("events", event("agent_message", message="x")),
        ("events", event("item_completed", item={"type": "Plan"})),
        ("bookkeeping", started("1")),
        ("bookkeeping", event("token_count", info=None)),
        ("bookkeeping", Line("token_usage_record", {})),
        ("images", item("image_generation_call", result="iVBOR")),
        ("other", Line("of_tomorrow", {})),
        ("other", item("of_tomorrow")),
    ],
)
def test_a_line_is_put_down_to_what_it_is_for(cause: str, line: Line) -> None:
    assert list(weighed(line)) == [cause]


def test_pictures_are_taken_out_of_the_lines_they_stand_in() -> None:
    parts: list[dict[str, Any]] = [{"type": "input_image", "image_url": PICTURE}, {"type": "input_text", "text": "x"}]
    in_output = weighed(item("function_call_output", call_id="1", output=[*parts, *parts]))
    in_message = weighed(Line("response_item", {"type": "message", "role": "user", "content": parts}))
    in_event = weighed(event("user_message", message="see", images=[PICTURE]))
    in_text = weighed(item("function_call_output", call_id="1", output=msgspec.json.encode(parts).decode()))

    assert (in_output["images"], in_message["images"], in_event["images"]) == (
        2 * len(PICTURE),
        len(PICTURE),
        len(PICTURE),
    )
    assert {*in_output, *in_message, *in_event} == {"images", "tool_output", "messages", "events"}
    assert len(PICTURE) <= in_text["images"] <= len(PICTURE) + 1


def test_pictures_in_compactions_and_copies_are_put_down_to_these() -> None:
    picture = {"type": "input_image", "image_url": PICTURE}

    assert list(weighed(compacted({"type": "message", "role": "user", "content": [picture]}))) == ["compactions"]
    assert list(weighed(event("user_message", message="", images=[PICTURE]), copied=True)) == ["copies"]


def test_other_data_is_no_picture() -> None:
    assert image_bytes(b'{"url":"data:text/plain;base64,' + b"x" * 1000 + b'"}') == 0
    assert image_bytes(b'{"url":"data:image/png;base64,' + b"x" * 1000) == 0


def test_what_cannot_be_read_is_damaged() -> None:
    line = b'{"timestamp":"2026-07-01T12:00:00.000Z","ty'

    assert Weights.of([(line, decode_line(line))]) == Weights(damaged=len(line) + 1)


def test_every_byte_of_every_shape_is_put_down_once(tmp_path: Path) -> None:
    home = Home(RealFileSystem(), tmp_path)
    whole = Weights()
    size = 0
    for thread in write_every_shape(home).values():
        for segment in thread.segments:
            data = segment.data
            weights = Weights.of([(line, decode_line(line)) for line in data.splitlines()])
            assert weights.total == len(data) + (not data.endswith(b"\n"))
            whole, size = whole + weights, size + weights.total
    assert whole.total == size
    assert {cause for cause, found in whole.items() if not found} == {"images", "reasoning", "copies", "other"}


kinds = st.sampled_from(
    ["", "message", "agent_message", "reasoning", "compacted", "token_count", "function_call_output", "x", "state"]
)


@given(st.lists(st.tuples(kinds, st.binary(max_size=600), st.booleans()), max_size=20))
def test_no_byte_is_lost_or_counted_twice_whatever_the_lines_are(lines: list[tuple[str, bytes, bool]]) -> None:
    weights = Weights()
    for kind, line, copied in lines:
        weights.take(kind, line, copied=copied)
        weights = msgspec.msgpack.decode(msgspec.msgpack.encode(weights), type=Weights)

    assert weights.total == sum(len(line) + 1 for _, line, _ in lines)
    assert [cause for cause, _ in weights.items()] == list(CAUSES)


def test_recorded_homes_have_a_cause_for_nearly_every_byte(shared: Path) -> None:
    whole = Weights()
    for path in sorted(shared.glob("corpus/codex*/*/*/home/**/rollout-*.jsonl")):
        for line in path.read_bytes().splitlines():
            record = decode_line(line)
            if not isinstance(record, Record):
                continue
            inner = payload_kind(record.payload) if record.type in ("event_msg", "response_item") else None
            whole.take(inner or record.type, line, copied=False)
    assert whole.total > 1_000_000
    assert whole.other < whole.total / 500
