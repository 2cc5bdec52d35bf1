"""Server-sent events survive any way of cutting the bytes."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.agent.model.sse import EventParser, EventTooLong, ServerEvent

NEWLINES = st.sampled_from([b"\n", b"\r\n", b"\r"])
TEXT = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])).map(str.encode)


@st.composite
def streams(draw: st.DrawFn) -> tuple[bytes, list[ServerEvent]]:
    """Bytes of a well-formed stream, and what they say."""
    said: list[ServerEvent] = []
    written = bytearray(draw(st.sampled_from([b"", b"\xef\xbb\xbf"])))
    for _ in range(draw(st.integers(0, 5))):
        newline = draw(NEWLINES)
        name, lines = draw(st.sampled_from(["", "note"])), draw(st.lists(TEXT, max_size=3))
        fields = [b"data: " + line for line in lines]
        if name:
            fields.insert(draw(st.integers(0, len(fields))), b"event:" + name.encode())
        noise = draw(st.lists(st.sampled_from([b": comment", b":", b"id: 7", b"retry: 10", b"unknown"]), max_size=2))
        for line in (*noise, *fields, b""):
            written += line + newline
        if lines:
            said.append(ServerEvent(name, b"\n".join(lines)))
    return bytes(written), said


def read(chunks: list[bytes]) -> list[ServerEvent]:
    parser = EventParser()
    return [event for chunk in chunks for event in parser.feed(chunk)] + parser.finish()


@given(streams(), st.data())
def test_events_do_not_depend_on_where_the_bytes_are_cut(
    stream: tuple[bytes, list[ServerEvent]], data: st.DataObject
) -> None:
    raw, said = stream
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    edges = [0, *cuts, len(raw)]
    assert read([raw[start:end] for start, end in pairwise(edges)]) == said
    assert read([raw[place : place + 1] for place in range(len(raw))]) == said


def test_an_event_is_there_as_soon_as_its_last_byte_is() -> None:
    parser = EventParser()
    assert parser.feed(b"data: 1\r") == []
    assert parser.feed(b"\n\r") == [ServerEvent("", b"1")]
    assert parser.feed(b"\ndata: 2\n\n") == [ServerEvent("", b"2")]


def test_the_end_of_the_stream_ends_an_event_that_lacks_its_empty_line() -> None:
    assert read([b"event: e\ndata: 1"]) == [ServerEvent("e", b"1")]
    assert read([b"data: 1\n"]) == [ServerEvent("", b"1")]
    assert read([b""]) == []


def test_an_endless_event_is_refused_while_it_grows() -> None:
    parser = EventParser(longest=100)
    parser.feed(b"data: " + b"x" * 60)
    with pytest.raises(EventTooLong):
        parser.feed(b"x" * 60)


def test_many_lines_of_one_event_count_together_and_comments_do_not() -> None:
    parser = EventParser(longest=100)
    for _ in range(50):
        parser.feed(b": still there\n")
    parser.feed(b"data: " + b"x" * 80 + b"\n")
    with pytest.raises(EventTooLong):
        parser.feed(b"data: " + b"x" * 30 + b"\n")
