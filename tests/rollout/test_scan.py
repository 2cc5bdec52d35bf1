from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.rollout import MemorySource, Record, Skipped, scan_back, scan_forward

GOOD = b'{"timestamp":"t","type":"event_msg","payload":{"type":"x"}}'


def places(found: Iterator[Record | Skipped]) -> list[tuple[str, int, int]]:
    return [(type(line).__name__, line.start, line.end) for line in found]


def line(number: int) -> bytes:
    return b'{"timestamp":"t","type":"event_msg","payload":{"n":%d}}' % number


PIECES = st.one_of(
    st.integers(0, 99999).map(line),
    st.binary(max_size=8).map(lambda data: data.replace(b"\n", b" ")),
    st.sampled_from(
        [b"", b"\r", b"  ", b"\xff\xfe", b"{", b'{"a":1}', b"\0" * 5, b'{"record_type":"state"}', GOOD + b"\r"]
    ),
)


@given(st.lists(PIECES, max_size=12), st.booleans(), st.integers(1, 70))
def test_both_ways_see_the_same_lines_at_the_same_places(pieces: list[bytes], ended: bool, block: int) -> None:
    data = b"\n".join(pieces) + (b"\n" if ended and pieces else b"")
    forward = list(scan_forward(MemorySource(data), block=block))
    backward = list(scan_back(MemorySource(data), block=block))
    assert places(iter(forward)) == places(reversed(backward))
    assert [type(found) for found in forward] == [type(found) for found in scan_forward(MemorySource(data))]
    for found in forward:
        assert found.number == data.count(b"\n", 0, found.start) + 1
        assert found.start == 0 or data[found.start - 1 : found.start] == b"\n"
        assert data[found.end - 1 : found.end] == b"\n" or found.end == len(data)
    # Nothing is lost: what no line covers is blank, or bookkeeping.
    covered = b"".join(data[found.start : found.end] for found in forward)
    rest = len(data) - len(covered)
    silent = [
        piece for piece in pieces if piece == b'{"record_type":"state"}' or not piece.strip(b" \t\r\n\v\f\xef\xbb\xbf")
    ]
    assert rest <= sum(len(piece) + 1 for piece in silent)


def test_a_range_begins_and_ends_where_it_says() -> None:
    lines = [line(n) + b"\n" for n in range(4)]
    data = b"".join(lines)
    first, last = len(lines[0]), len(data) - len(lines[3])
    expected = [("Record", first, first + len(lines[1])), ("Record", first + len(lines[1]), last)]
    assert places(scan_forward(MemorySource(data), first, last)) == expected
    assert places(scan_back(MemorySource(data), last, start=first)) == expected[::-1]
    assert [found.number for found in scan_forward(MemorySource(data), first, last, first_number=2)] == [2, 3]


def test_a_torn_last_line_is_told_apart_and_a_whole_one_without_newline_is_read() -> None:
    torn = [*scan_forward(MemorySource(GOOD + b"\n" + GOOD[:20]))]
    assert [type(found) for found in torn] == [Record, Skipped]
    assert isinstance(torn[1], Skipped)
    assert torn[1].why.startswith("cut last line")
    back = next(scan_back(MemorySource(GOOD + b"\n" + GOOD[:20])))
    assert isinstance(back, Skipped)
    assert back.why == torn[1].why
    assert [type(found) for found in scan_forward(MemorySource(GOOD + b"\n" + GOOD))] == [Record, Record]


def test_only_gives_lines_of_the_wanted_types_and_the_unreadable_ones() -> None:
    data = b"\n".join(
        [
            GOOD,
            b'{"timestamp":"t","type":"compacted","payload":1}',
            b"rubbish",
            b'{"payload":1,"type":"compacted"}',
            b'{"payload":1,"type":"other"}',
        ]
    )
    for found in (
        scan_forward(MemorySource(data), only={"compacted"}),
        scan_back(MemorySource(data), only={"compacted"}),
    ):
        assert sorted(getattr(each, "type", "skipped") for each in found) == ["compacted", "compacted", "skipped"]


@pytest.mark.parametrize("block", [7, 1000])
def test_a_line_beyond_the_limit_costs_that_line_and_is_not_held(block: int) -> None:
    data = GOOD + b"\n" + b"x" * 500 + b"\n" + GOOD + b"\n"
    forward = list(scan_forward(MemorySource(data), max_line=100, block=block))
    backward = list(scan_back(MemorySource(data), max_line=100, block=block))
    assert [type(found) for found in forward] == [Record, Skipped, Record]
    assert [(found.start, found.end) for found in backward[::-1]] == [(found.start, found.end) for found in forward]
    assert [found.why for found in forward if isinstance(found, Skipped)] == ["longer than 100 bytes"]
    last = list(scan_forward(MemorySource(b"x" * 500), max_line=100, block=block))
    assert last == [Skipped(why="longer than 100 bytes", number=1, start=0, end=500)]
    assert next(scan_back(MemorySource(b"x" * 500), max_line=100, block=block)).end == 500


def test_a_line_of_a_hundred_megabytes_is_read() -> None:
    text = b"a" * 100_000_000
    data = b'{"timestamp":"t","type":"event_msg","payload":"' + text + b'"}\n' + GOOD
    found = list(scan_back(MemorySource(data)))
    assert [type(each) for each in found] == [Record, Record]
    assert isinstance(found[1], Record)
    assert len(bytes(found[1].payload)) == len(text) + 2
    assert [(each.start, each.end) for each in scan_forward(MemorySource(data))] == [
        (e.start, e.end) for e in found[::-1]
    ]


class Counting(MemorySource):
    read = 0

    def read_at(self, offset: int, length: int) -> bytes:
        data = super().read_at(offset, length)
        self.read += len(data)
        return data


def test_reading_back_touches_only_what_is_asked_for() -> None:
    source = Counting((GOOD + b"\n") * 200_000)
    found = scan_back(source)
    for _ in range(100):
        assert isinstance(next(found), Record)
    assert source.read < 600_000


class Failing(MemorySource):
    """A disk that does not give the bytes 100 to 200."""

    def read_at(self, offset: int, length: int) -> bytes:
        if offset < 200 and offset + length > 100:
            raise OSError(5, "Input/output error")
        return super().read_at(offset, length)


def test_an_unreadable_place_costs_the_lines_in_it() -> None:
    data = (GOOD + b"\n") * 20
    for found in (list(scan_forward(Failing(data), block=50)), list(scan_back(Failing(data), block=50))):
        records = [each for each in found if isinstance(each, Record)]
        skipped = [each.why for each in found if isinstance(each, Skipped)]
        assert len(records) >= 16
        assert any("Input/output error" in why for why in skipped)
        for each in records:
            assert data[each.start : each.end] == GOOD + b"\n"


def test_a_line_that_only_looks_like_bookkeeping_is_read() -> None:
    line = b'{"type":"state","payload":{"id":1}}'
    found = list(scan_forward(MemorySource(line + b"\n")))
    assert [(one.type, bytes(one.payload)) for one in found if isinstance(one, Record)] == [("state", b'{"id":1}')]
