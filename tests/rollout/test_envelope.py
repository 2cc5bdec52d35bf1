from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clew.rollout import Line, Record, Skipped, decode_line, encode_line, payload_kind, peek_type
from clew.rollout.envelope import STATE_LINE

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


def plain(found: Record | Skipped) -> Any:
    if isinstance(found, Skipped):
        return found.why
    metadata = json.loads(bytes(found.metadata)) if found.metadata is not None else None
    return found.type, json.loads(bytes(found.payload)), found.timestamp, found.ordinal, metadata


@given(JSON, st.none() | st.integers(0, 2**60), st.none() | st.dictionaries(st.text(), JSON))
def test_lines_come_back_as_they_were(payload: Any, ordinal: int | None, metadata: Any) -> None:
    data = encode_line(Line("event_msg", payload, metadata), timestamp="2026", ordinal=ordinal)
    assert data.count(b"\n") == 1
    found = decode_line(data[:-1])
    assert plain(found) == ("event_msg", json.loads(json.dumps(payload)), "2026", ordinal, metadata)
    assert peek_type(data) == "event_msg"


@given(st.binary() | st.text().map(str.encode) | JSON.map(lambda value: json.dumps(value).encode()))
@example(b"[" * 100_000)
@example(b'{"type":"a","payload":' + b"[" * 100_000 + b"]" * 100_000 + b"}")
@example(b'{"type":"a","payload":1,"ordinal":1e999}')
def test_decoding_never_raises_and_payloads_can_be_read(data: bytes) -> None:
    found = decode_line(memoryview(data), number=3, start=5, end=9)
    assert (found.number, found.start, found.end) == (3, 5, 9)
    if isinstance(found, Record):
        msgspec.json.decode(found.payload)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (b'{"type":"x","payload":{"a":1}}', ("x", {"a": 1}, None, None, None)),
        (b' {"type":"x","payload":null,"new":[1]}\r', ("x", None, None, None, None)),
        (b'\xef\xbb\xbf{"timestamp":"t","type":"x","payload":1}', ("x", 1, "t", None, None)),
        (b'{"timestamp":5,"ordinal":"7","type":"x","payload":1}', ("x", 1, None, None, None)),
        (b'{"type":"x","payload":1,"ordinal":7.0}', ("x", 1, None, 7, None)),
        (b'{"type":"x","payload":{"n":NaN}}', ("x", {"n": None}, None, None, None)),
        (
            b'{"type":"x","payload":"\\ud83d\\ude00 \\ud83d \\\\ud83d"}',
            ("x", "\U0001f600 \ufffd \\ud83d", None, None, None),
        ),
        (b'{"type":"x","payload":1,"metadata":{"m":2}}', ("x", 1, None, None, {"m": 2})),
        (b'{"timestamp":"t","type":"later_kind"}', ("later_kind", None, "t", None, None)),
        (b'{"type":"x","payload":"\xff"}', "not UTF-8 (byte 23)"),
        (b"\0\0\0", "only zero bytes"),
        (b"[1]", "not a JSON object"),
        (b'{"other":1}', "not a line of a rollout"),
    ],
)
def test_what_lines_are_read_as(line: bytes, found: Any) -> None:
    assert plain(decode_line(line)) == found


def test_the_bare_format_comes_in_the_same_clothes() -> None:
    meta = {"id": "b427", "timestamp": "2025-08-01T00:00:00.000Z", "instructions": None}
    item = {"type": "message", "id": None, "role": "user", "content": ["x"]}
    assert [plain(decode_line(json.dumps(line).encode())) for line in (meta, item, {"record_type": "state"})] == [
        ("session_meta", meta, meta["timestamp"], None, None),
        ("response_item", item, None, None, None),
        (STATE_LINE, {"record_type": "state"}, None, None, None),
    ]


def test_keys_are_written_in_the_order_of_the_original() -> None:
    line = Line("x", msgspec.Raw(b'{"b": 1,\n "a": 2}'), {"m": 1})
    assert encode_line(line, timestamp="t", ordinal=3) == (
        b'{"timestamp":"t","ordinal":3,"type":"x","payload":{"b":1,"a":2},"metadata":{"m":1}}\n'
    )


def test_what_json_cannot_hold_does_not_stop_a_write() -> None:
    line = Line("x", {"half": "\ud83d", "whole": "\ud83d\ude00", "raw": msgspec.Raw(b'{"z": 1}'), "big": 2**90})
    found = decode_line(encode_line(line, timestamp="t", ordinal=None)[:-1])
    assert plain(found) == (
        "x",
        {"half": "\ufffd", "whole": "\U0001f600", "raw": {"z": 1}, "big": 2**90},
        "t",
        None,
        None,
    )


def test_a_payload_that_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError):
        encode_line(Line("x", object()), timestamp="t", ordinal=None)


def test_the_kind_of_a_payload() -> None:
    kinds = [b'{"type":"task_started","x":1}', b'{ "x":{"type":"no"},"type":"message"}', b'{"x":1}', b"[]", b"nonsense"]
    assert [payload_kind(msgspec.Raw(kind)) for kind in kinds] == ["task_started", "message", None, None, None]


def test_peeking_gives_up_on_unusual_lines() -> None:
    assert peek_type(b'{"type":"x","timestamp":"t","payload":1}') is None
