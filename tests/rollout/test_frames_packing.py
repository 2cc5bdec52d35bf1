"""Packing: frames that end with lines, a seek table that is believed as far as it is true, reading at any place."""

from __future__ import annotations

import io
import random
import shutil
import subprocess
import tracemalloc
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st

from clew.errors import BadRequest, LogDamaged
from clew.rollout import (
    FailPoints,
    File,
    Home,
    MemorySource,
    RealFileSystem,
    Record,
    Skipped,
    materialise,
    scan_back,
    scan_forward,
)
from clew.rollout.frames import FrameSource
from clew.rollout.framing import SeekTable, encode_table, read_table, walk_frames
from clew.rollout.packing import pack, pack_bytes
from clew.rollout.source import PlainSource
from clew.testing.builders import ThreadBuilder
from clew.testing.disk import MemoryFileSystem

PLACE = Path("/x.zst")
LINES = b"".join(b'{"timestamp":"t","type":"event_msg","payload":{"n":%d}}\n' % n for n in range(4000))


class Counted:
    """An open file that notes which bytes were read."""

    def __init__(self, file: File) -> None:
        self._file = file
        self.reads: list[tuple[int, int]] = []
        self.path = file.path
        self.size, self.identity, self.close = file.size, file.identity, file.close
        self.write, self.write_at, self.sync = file.write, file.write_at, file.sync
        self.try_lock, self.unlock = file.try_lock, file.unlock

    def read_at(self, offset: int, length: int) -> bytes:
        data = self._file.read_at(offset, length)
        self.reads.append((offset, len(data)))
        return data

    @property
    def bytes_read(self) -> int:
        return sum(length for _, length in self.reads)


def opened(data: bytes) -> Counted:
    fs = MemoryFileSystem()
    fs.write_bytes(PLACE, data)
    return Counted(fs.open_read(PLACE))


def table_of(data: bytes) -> SeekTable | None:
    return read_table(opened(data))


def unpacked(data: bytes) -> bytes:
    """What a reader that knows nothing of tables gets."""
    reader = zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True)
    return reader.read()


def starts(lines: bytes, frame: int) -> list[int]:
    table = table_of(pack_bytes(lines, frame=frame))
    assert table is not None
    return [piece.start for piece in table.pieces]


# -- writing


def test_frames_end_with_lines_and_hold_about_as_much_as_asked() -> None:
    assert starts(b"aaa\nbbb\ncc\ndddd\n", 8) == [0, 8]
    assert starts(b"aaa\nbbb\ncc\ndddd\n", 9) == [0, 8]
    assert starts(b"aaa\nbbb\ncc\ndddd\n", 4) == [0, 4, 8, 11]
    ends = starts(LINES, 5000)[1:]
    assert {LINES[end - 1] for end in ends} == {ord("\n")}
    sizes = [end - begin for begin, end in pairwise([0, *ends])]
    assert min(sizes) > 4900
    assert max(sizes) <= 5000


def test_a_longer_line_has_a_frame_of_its_own() -> None:
    assert starts(b"a\n" + b"b" * 50 + b"\n" + b"c\n", 8) == [0, 2, 53]
    assert starts(b"a" * 100, 8) == [0]
    assert starts(b"a\n" + b"b" * 3_000_000 + b"\nc\n", 1 << 20) == [0, 2, 3_000_003]


def test_a_torn_last_line_stays_as_it_is() -> None:
    packed = pack_bytes(b"aaa\nbb", frame=4)
    assert unpacked(packed) == b"aaa\nbb"
    assert starts(b"aaa\nbb", 4) == [0, 4]


def test_nothing_is_one_empty_frame() -> None:
    packed = pack_bytes(b"")
    assert unpacked(packed) == b""
    with closing(FrameSource(opened(packed))) as source:
        assert (source.seekable, source.size(), source.read_at(0, 10), source.damage) == (True, 0, b"", None)


@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(1, 60), st.sampled_from([1, 3, 9]), st.data())
@example([b"", b"a"], 1, 3, None)
def test_what_is_packed_is_read_at_any_place(
    lines: list[bytes], frame: int, level: int, draw: st.DataObject | None
) -> None:
    text = b"\n".join(lines)
    packed = pack_bytes(text, frame=frame, level=level)
    assert unpacked(packed) == text
    with closing(FrameSource(opened(packed))) as source:
        assert source.seekable
        for _ in range(6 if draw else 0):
            assert draw is not None
            offset = draw.draw(st.integers(0, len(text) + 2))
            length = draw.draw(st.integers(0, len(text) + 2))
            assert source.read_at(offset, length) == text[offset : offset + length]
        assert source.size() == len(text)
        assert source.damage is None
    frames = [(each.offset, each.length) for each in walk_frames(opened(packed))]
    table = table_of(packed)
    assert table is not None
    assert frames == [(piece.offset, piece.length) for piece in table.pieces]


def test_a_level_that_needs_readers_with_much_memory_is_refused() -> None:
    for level in (0, -5, 20, 22):
        with pytest.raises(BadRequest, match="level: give a number from 1 to 19"):
            pack_bytes(b"a\n", level=level)


def test_the_pace_is_asked_before_each_frame_and_may_stop() -> None:
    asked: list[int] = []

    def pace(count: int) -> None:
        asked.append(count)
        if len(asked) == 3:
            raise TimeoutError

    out = io.BytesIO()
    with pytest.raises(TimeoutError):
        pack(MemorySource(LINES), out, frame=10_000, paced=pace)
    assert all(9_000 < count <= 10_000 for count in asked)
    assert unpacked(out.getvalue()) == LINES[: sum(asked[:2])]


def test_packing_a_long_line_holds_blocks_of_it(tmp_path: Path) -> None:
    fs = RealFileSystem()
    with (tmp_path / "plain").open("wb") as out:
        for _ in range(24):
            out.write(b"abcdefgh" * (1 << 17))
    with closing(fs.open_read(tmp_path / "plain")) as plain, closing(fs.open_append(tmp_path / "packed")) as packed:
        tracemalloc.start()
        try:
            done = pack(PlainSource(plain), packed)
            most = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert (done.frames, done.unpacked) == (1, 24 << 20)
        assert most < 8 << 20
    with closing(FrameSource(fs.open_read(tmp_path / "packed"))) as source:
        assert source.seekable
        assert source.read_at((24 << 20) - 8, 100) == b"abcdefgh"
        assert source.read_at(4, 6) == b"efghab"


@pytest.mark.skipif(shutil.which("zstd") is None, reason="no zstd program here")
def test_the_zstd_program_reads_it(tmp_path: Path) -> None:
    packed = tmp_path / "x.zst"
    packed.write_bytes(pack_bytes(LINES, frame=10_000))
    done = subprocess.run(["zstd", "-dc", str(packed)], capture_output=True, check=True)
    assert done.stdout == LINES
    subprocess.run(["zstd", "-q", "-t", str(packed)], check=True)


# -- reading


def noisy(count: int) -> bytes:
    chance = random.Random(1)
    return b"".join(
        b'{"timestamp":"t","type":"event_msg","payload":{"n":%d,"x":"%s"}}\n' % (n, chance.randbytes(40).hex().encode())
        for n in range(count)
    )


def test_a_tail_decodes_only_its_frames() -> None:
    text = noisy(20_000)
    file = opened(pack_bytes(text, frame=1 << 16))
    with closing(FrameSource(file)) as source:
        back = scan_back(source, block=1 << 14)
        found = [next(back) for _ in range(50)]
        whole = [line for line in scan_back(MemorySource(text)) if isinstance(line, Record)][:50]
        assert [(line.start, line.end) for line in found] == [(line.start, line.end) for line in whole]
        assert file.bytes_read < file.size() // 8


def test_a_page_in_the_middle_decodes_only_its_frames() -> None:
    text = noisy(20_000)
    file = opened(pack_bytes(text, frame=1 << 16))
    with closing(FrameSource(file)) as source:
        begin = text.index(b"\n", len(text) // 2) + 1
        page = list(scan_forward(source, begin, begin + 10_000, block=1 << 13))
        assert len(page) > 50
        assert file.bytes_read < file.size() // 8


def test_frames_that_were_decoded_are_kept_within_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.rollout.frames.HELD", 30_000)
    file = opened(pack_bytes(LINES, frame=10_000))
    with closing(FrameSource(file)) as source:
        source.read_at(0, 25_000)
        before = len(file.reads)
        source.read_at(5000, 15_000)
        assert len(file.reads) == before
        source.read_at(40_000, 40_000)
        assert len(file.reads) == before + 5
        source.read_at(0, 10)
        assert len(file.reads) == before + 6


def test_a_frame_too_large_for_memory_is_read_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.rollout.frames.WHOLE", 5000)
    text = b"a\n" + noisy(300).replace(b"\n", b" ") + b"\n" + b"b" * 9000 + b"\n"
    with closing(FrameSource(opened(pack_bytes(text, frame=4000)))) as source:
        for offset, length in ((0, 10), (20_000, 99), (len(text) - 50, 60), (3, 20_000), (1, len(text))):
            assert source.read_at(offset, length) == text[offset : offset + length]
        assert source.seekable


def test_both_ways_give_the_same_lines_with_and_without_the_table() -> None:
    packed = pack_bytes(LINES, frame=3000)
    expected = [(line.start, line.end) for line in scan_forward(MemorySource(LINES))]
    for seekable in (True, False):
        with closing(FrameSource(opened(packed), seekable=seekable)) as source:
            assert source.seekable == seekable
            assert [(line.start, line.end) for line in scan_forward(source, block=5000)] == expected
            assert [(line.start, line.end) for line in scan_back(source, block=5000)][::-1] == expected


# -- tables that are not true


def lying(text: bytes, change: int) -> bytes:
    """A file whose table says something wrong, one thing per number."""
    cut = text.index(b"\n", len(text) // 2) + 1
    compressor = zstandard.ZstdCompressor(level=3, write_checksum=True)
    frames = [compressor.compress(part) for part in (text[:cut], text[cut:])]
    entries = [(len(each), size, each[-4:]) for each, size in zip(frames, (cut, len(text) - cut), strict=True)]
    match change:
        case 0:
            entries[0] = (entries[0][0], entries[0][1] + 1, entries[0][2])
        case 1:
            entries[0] = (entries[0][0] + 1, entries[0][1], entries[0][2])
            entries[1] = (entries[1][0] - 1, entries[1][1], entries[1][2])
        case 2:
            entries.reverse()
        case 3:
            entries.pop()
        case 4:
            entries[0] = (entries[0][0], entries[0][1], b"abcd")
        case 5:
            entries[1] = (entries[1][0], entries[1][1], b"abcd")
        case 6:
            entries.append((0, 0, b"\0\0\0\0"))
        case 7:
            entries = [(sum(map(len, frames)), len(text), entries[1][2])]
        case _:
            frames = [zstandard.ZstdCompressor(level=3).compress(text)]
            entries = [(len(frames[0]), len(text), frames[0][-4:])]
    return b"".join(frames) + encode_table(entries)


@pytest.mark.parametrize("change", range(9))
def test_a_lying_table_is_not_believed(change: int) -> None:
    data = lying(LINES, change)
    assert table_of(data) is None
    with closing(FrameSource(opened(data))) as source:
        assert not source.seekable
        assert source.read_at(100, 50) == LINES[100:150]
        assert source.size() == len(LINES)
        assert source.damage is None


def test_a_table_whose_frames_lie_within_others_is_found_out_when_they_are_decoded() -> None:
    # Text that cannot be compressed stands in a frame as it is, and may look like two frames with their own text.
    inner = zstandard.ZstdCompressor(level=3, write_checksum=True)
    first, second = inner.compress(random.Random(2).randbytes(900)), inner.compress(random.Random(3).randbytes(900))
    outer = zstandard.ZstdCompressor(level=3, write_checksum=True).compress(first + second)
    at = outer.index(first)
    assert unpacked(outer) == first + second
    data = outer + encode_table(
        [
            (at + len(first), len(first) + len(second), first[-4:]),
            (len(outer) - at - len(first), 900, outer[-4:]),
        ]
    )
    with closing(FrameSource(opened(data))) as source:
        assert source.seekable
        assert source.read_at(0, 4000) == first + second
        assert not source.seekable
        assert source.damage is None


@given(place=st.integers(0, 400), noise=st.binary(min_size=1, max_size=30), behind=st.booleans())
def test_any_damage_costs_at_most_what_it_hits_and_never_raises(place: int, noise: bytes, *, behind: bool) -> None:
    data = bytearray(pack_bytes(LINES[:20_000], frame=5000))
    at = max(0, len(data) - place) if behind else place
    data[at : at + len(noise)] = noise
    with closing(FrameSource(opened(bytes(data)))) as source:
        for line in (*scan_forward(source), *scan_back(source)):
            assert isinstance(line, Record | Skipped)


def test_a_damaged_frame_costs_its_own_lines() -> None:
    data = bytearray(pack_bytes(LINES, frame=10_000))
    table = table_of(bytes(data))
    assert table is not None
    piece = table.pieces[5]
    data[piece.offset + piece.length // 2] ^= 0xFF
    for scan in (scan_forward, scan_back):
        with closing(FrameSource(opened(bytes(data)))) as source:
            found = list(scan(source, block=2000))
            lost = [line for line in found if isinstance(line, Skipped)]
            assert all("damaged zstd frame at byte" in line.why for line in lost)
            assert lost
            read = sum(isinstance(line, Record) for line in found)
            assert 4000 - 10_000 // 45 - 120 < read < 4000
            assert source.seekable


def test_a_file_that_was_cut_is_read_as_far_as_it_goes() -> None:
    data = pack_bytes(LINES, frame=10_000)
    table = table_of(data)
    assert table is not None
    cut = table.pieces[7]
    with closing(FrameSource(opened(data[: cut.offset + cut.length // 2]))) as source:
        assert not source.seekable
        found = list(scan_forward(source))
        assert isinstance(found[-1], Skipped)
        assert found[-1].why == "damaged zstd file: the frame is incomplete"
        assert sum(isinstance(line, Record) for line in found) == LINES[: cut.start].count(b"\n")


def test_lines_behind_the_table_are_another_programs_and_the_table_is_no_longer_one() -> None:
    data = pack_bytes(LINES, frame=10_000) + zstandard.ZstdCompressor().compress(b"more\n")
    with closing(FrameSource(opened(data))) as source:
        assert not source.seekable
        assert source.size() == len(LINES) + 5


# -- unpacking


def test_framed_files_are_materialised_frame_by_frame(home: Home) -> None:
    fs = home.fs
    assert isinstance(fs, MemoryFileSystem)
    thread = ThreadBuilder("0.169").turn("a", "b" * 5000).turn("c")
    path = thread.write(home)
    fs.unlink(path)
    packed = path.with_name(f"{path.name}.zst")
    fs.write_bytes(packed, pack_bytes(thread.data, frame=1000))
    found = home.find(thread.id)
    assert found is not None
    assert fs.read_bytes(materialise(fs, found.current, process=7).path) == thread.data


def test_a_framed_file_with_a_damaged_frame_is_not_materialised(home: Home) -> None:
    fs = home.fs
    assert isinstance(fs, MemoryFileSystem)
    thread = ThreadBuilder("0.169").turn("a", "b" * 5000).turn("c")
    path = thread.write(home)
    fs.unlink(path)
    packed = path.with_name(f"{path.name}.zst")
    data = bytearray(pack_bytes(thread.data, frame=1000))
    data[200] ^= 0xFF
    fs.write_bytes(packed, bytes(data))
    found = home.find(thread.id)
    assert found is not None
    with pytest.raises(LogDamaged, match="damaged zstd"):
        materialise(fs, found.current, process=7)
    assert [entry.name for entry in fs.scan(path.parent)] == [packed.name]


def test_a_plain_file_whose_name_was_not_durable_becomes_so_before_the_packed_one_goes(home: Home) -> None:
    fs = home.fs
    assert isinstance(fs, MemoryFileSystem)
    thread = ThreadBuilder("0.169").turn("a")
    thread.write(home, compressed=True)
    found = home.find(thread.id)
    assert found is not None
    plain = fs.open_append(found.current.plain_path, exclusive=True)
    plain.write(thread.data)
    plain.close()

    def cut() -> None:
        fs.crash()
        raise OSError(5, "power")

    with pytest.raises(OSError, match="power"):
        materialise(fs, found.current, process=7, fail=FailPoints({"before_unlink": cut}))
    assert fs.read_bytes(found.current.plain_path) == thread.data


def test_unpacking_holds_a_few_frames(tmp_path: Path) -> None:
    fs = RealFileSystem()
    home = Home(fs, tmp_path)
    thread = ThreadBuilder("0.169").turn("a")
    path = thread.write(home)
    text = noisy(200_000)
    with path.open("ab") as out:
        out.write(text)
    with closing(fs.open_read(path)) as plain, closing(fs.open_append(path.with_name(f"{path.name}.zst"))) as packed:
        pack(PlainSource(plain), packed)
    path.unlink()
    found = home.find(thread.id)
    assert found is not None
    tracemalloc.start()
    try:
        file = materialise(fs, found.current, process=7)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert file.size == len(thread.data) + len(text)
    assert most < 16 << 20
