from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from clew.errors import LogDamaged
from clew.rollout import FailPoints, Home, MemorySource, Record, Skipped, materialise, scan_back, scan_forward
from clew.rollout.frames import FrameSource
from clew.testing.builders import ThreadBuilder
from clew.testing.disk import MemoryFileSystem


def open_packed(home: Home, data: bytes) -> FrameSource:
    fs = home.fs
    assert isinstance(fs, MemoryFileSystem)
    fs.write_bytes(home.path / "x.zst", data)
    return FrameSource(fs.open_read(home.path / "x.zst"))


@pytest.fixture
def source() -> Iterator[Callable[[Home, bytes], FrameSource]]:
    opened: list[FrameSource] = []

    def make(home: Home, data: bytes) -> FrameSource:
        opened.append(open_packed(home, data))
        return opened[-1]

    yield make
    for each in opened:
        each.close()


def pack(data: bytes, *, checksum: bool = False, sized: bool = True) -> bytes:
    return zstandard.ZstdCompressor(level=3, write_checksum=checksum, write_content_size=sized).compress(data)


def fresh() -> Home:
    return Home(MemoryFileSystem(), Path("/home"))


Source = Callable[[Home, bytes], FrameSource]
LONG = b"".join(b'{"timestamp":"t","type":"event_msg","payload":{"n":%d}}\n' % n for n in range(60_000))


def test_both_ways_read_what_was_packed(home: Home, source: Source) -> None:
    expected = list(scan_forward(MemorySource(LONG)))
    packed = source(home, pack(LONG))
    assert [(line.start, line.end) for line in scan_forward(packed)] == [(line.start, line.end) for line in expected]
    assert packed.damage is None
    back = list(scan_back(source(home, pack(LONG))))
    assert [(line.start, line.end) for line in back[::-1]] == [(line.start, line.end) for line in expected]


@given(st.lists(st.binary(max_size=300), max_size=4), st.booleans(), st.booleans(), st.data())
def test_any_frames_and_any_places(parts: list[bytes], checksum: bool, sized: bool, draw: st.DataObject) -> None:
    data = b"".join(parts)
    skippable = b"\x50\x2a\x4d\x18\x03\0\0\0abc"
    frames = [pack(part, checksum=checksum, sized=sized) for part in parts]
    with closing(open_packed(fresh(), skippable.join(frames))) as packed:
        for _ in range(4):
            offset = draw.draw(st.integers(0, len(data) + 2))
            length = draw.draw(st.integers(0, len(data) + 2))
            assert packed.read_at(offset, length) == data[offset : offset + length]
        assert packed.size() == len(data)
        assert packed.read_at(0, len(data)) == data


def test_a_streamed_frame_without_size_is_read(home: Home, source: Source) -> None:
    out = io.BytesIO()
    with zstandard.ZstdCompressor(level=3).stream_writer(out, closefd=False) as writer:
        for start in range(0, len(LONG), 10_000):
            writer.write(LONG[start : start + 10_000])
    assert source(home, out.getvalue()).size() == len(LONG)


def test_a_cut_frame_gives_what_can_be_decoded_and_says_so(home: Home, source: Source) -> None:
    packed = pack(LONG)
    for found in (
        list(scan_forward(source(home, packed[: len(packed) // 2]))),
        list(scan_back(source(home, packed[: len(packed) // 2]))),
    ):
        reasons = [line.why for line in found if isinstance(line, Skipped)]
        assert "damaged zstd file: the frame is incomplete" in reasons
        assert sum(isinstance(line, Record) for line in found) > 1000


@pytest.mark.parametrize("data", [b"", b"no zstd at all", b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfd\x00"])
def test_what_is_no_frame_is_damage(home: Home, source: Source, data: bytes) -> None:
    packed = source(home, data)
    assert packed.size() == 0
    assert packed.damage is not None


@given(st.binary(max_size=40), st.integers(0, 200))
def test_damaged_bytes_never_raise(noise: bytes, place: int) -> None:
    packed = bytearray(pack(LONG[:5000], checksum=True))
    packed[place : place + len(noise)] = noise
    with closing(open_packed(fresh(), bytes(packed))) as opened:
        for line in scan_forward(opened):
            assert isinstance(line, Record | Skipped)
        assert [type(line) for line in scan_back(opened)]


def test_a_bomb_is_stopped(home: Home, source: Source, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.rollout.frames.UNPACKED_FLOOR", 1 << 22)
    monkeypatch.setattr("clew.rollout.frames.UNPACKED_RATIO", 10)
    packed = source(home, pack(bytes(64 << 20)))
    assert packed.size() <= 1 << 22
    assert packed.damage is not None
    assert "more than" in packed.damage


def packed_thread(home: Home) -> ThreadBuilder:
    thread = ThreadBuilder("0.142").turn("a").turn("b")
    thread.write(home, compressed=True)
    return thread


def test_materialise_leaves_only_the_plain_file(home: Home) -> None:
    thread = packed_thread(home)
    before = home.find(thread.id)
    assert before is not None
    plain = materialise(home.fs, before.current, process=7)
    after = home.find(thread.id)
    assert after is not None
    assert after.current == plain
    assert plain.mtime_ns == before.current.mtime_ns
    assert isinstance(home.fs, MemoryFileSystem)
    assert home.fs.read_bytes(plain.path) == thread.data
    assert [entry.name for entry in home.fs.scan(plain.path.parent)] == [plain.path.name]
    assert materialise(home.fs, plain, process=7) == plain


def test_materialise_gives_way_to_another_that_was_faster(home: Home) -> None:
    thread = packed_thread(home)
    found = home.find(thread.id)
    assert found is not None
    assert isinstance(home.fs, MemoryFileSystem)
    fs = home.fs
    fail = FailPoints({"before_link": lambda: fs.write_bytes(found.current.plain_path, thread.data)})
    assert fs.read_bytes(materialise(fs, found.current, fail=fail, process=7).path) == thread.data
    assert len(fs.scan(found.current.path.parent)) == 1


def test_a_damaged_file_is_not_materialised(home: Home) -> None:
    thread = packed_thread(home)
    found = home.find(thread.id)
    assert found is not None
    assert isinstance(home.fs, MemoryFileSystem)
    data = home.fs.read_bytes(found.current.path)
    home.fs.write_bytes(found.current.path, data[:-10])
    with pytest.raises(LogDamaged, match="incomplete"):
        materialise(home.fs, found.current, process=7)
    assert [entry.name for entry in home.fs.scan(found.current.path.parent)] == [found.current.path.name]


@pytest.mark.parametrize(
    "step",
    ["after_create", "before_sync", "after_sync", "before_link", "after_rename", "before_folder_sync", "before_unlink"],
)
@pytest.mark.parametrize("seed", [None, 1, 2, 3])
def test_a_crash_while_unpacking_loses_nothing(home: Home, step: str, seed: int | None) -> None:
    thread = packed_thread(home)
    found = home.find(thread.id)
    assert found is not None
    assert isinstance(home.fs, MemoryFileSystem)
    fs = home.fs

    def crash() -> None:
        fs.crash(seed)
        raise OSError(5, "power")

    with pytest.raises(OSError):
        materialise(fs, found.current, fail=FailPoints({step: crash}), process=7)
    again = home.find(thread.id)
    assert again is not None
    plain = materialise(fs, again.current, process=8)
    assert fs.read_bytes(plain.path) == thread.data
