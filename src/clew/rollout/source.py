"""Bytes of a rollout, plain or compressed, behind one small contract."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from clew.rollout.filesystem import File, FileSystem

if TYPE_CHECKING:
    from clew.rollout.layout import RolloutFile

__all__ = ["ByteSource", "MemorySource", "PlainSource", "open_source"]


class ByteSource(Protocol):
    """Unpacked bytes. Offsets count from the beginning of the unpacked file."""

    def size(self) -> int:
        """The number of bytes there are now. For a compressed file this may unpack all of it."""
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes, none behind the end. Reading forward never holds more than a block."""
        ...

    @property
    def damage(self) -> str | None:
        """Why the bytes end before they should; None while nothing of the kind was met."""
        ...

    def close(self) -> None: ...


class PlainSource:
    """An open plain file."""

    damage: str | None = None

    def __init__(self, file: File) -> None:
        self._file = file

    def size(self) -> int:
        return self._file.size()

    def read_at(self, offset: int, length: int) -> bytes:
        return self._file.read_at(offset, length)

    def close(self) -> None:
        self._file.close()


class MemorySource:
    """Bytes that are there already."""

    damage: str | None = None

    def __init__(self, data: bytes) -> None:
        self._data = data

    def size(self) -> int:
        return len(self._data)

    def read_at(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    def close(self) -> None:
        pass


def open_source(fs: FileSystem, file: RolloutFile) -> ByteSource:
    """Open a rollout for reading. Where it switched between plain and compressed since it was found, the other one is
    opened. Raises `FileNotFoundError` when neither is there."""
    from clew.rollout.frames import FrameSource

    plain = file.plain_path
    missing: FileNotFoundError | None = None
    # Plain wins over compressed. While one replaces the other at least one is there, so a second look finds it.
    for packed in (False, True, False):
        try:
            opened = fs.open_read(plain.with_name(f"{plain.name}.zst") if packed else plain)
        except FileNotFoundError as error:
            missing = error
            continue
        return FrameSource(opened) if packed else PlainSource(opened)
    assert missing is not None
    raise missing
