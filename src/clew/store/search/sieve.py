"""Which lines of many rollouts may hold a text: plain files through ripgrep where they lie, all others unpacked into
files without a name and sieved there. Each compressed file is unpacked once."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

from clew.errors import SearchStopped
from clew.rollout import ByteSource, Home, Link, RealFileSystem
from clew.rollout.unpacking import text_blocks
from clew.store.queries import Stop
from clew.store.search.first_look import FirstLook
from clew.store.search.listing import Listed
from clew.store.search.ripgrep import Ripgrep, RipgrepFailed, is_large

__all__ = ["Piece", "Sieve", "Sieved"]

_BATCH = 16 << 20
"""Bytes of text that are unpacked together."""
_IN_MEMORY = 64 << 20
_RATIO = 4
"""How many times larger a text is than its compressed form, about."""
_ARGUMENTS = 1_200_000
"""Bytes of file names in one command line, at most half of what the system takes."""
_ARGUMENT = 16
"""Bytes that an argument takes besides its characters."""
_WORKERS = 2

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Piece:
    """A file, or the part of it that belongs to a thread, that is to be looked at for `key`."""

    key: str
    link: Link


@dataclass(frozen=True, slots=True)
class Sieved:
    """The offsets of the lines of a piece that may hold a text (None: any line may), and where its bytes are: `source`
    None in the file itself. `error` says why it cannot be read."""

    piece: Piece
    lines: Sequence[int] | None
    source: ByteSource | None = None
    error: str | None = None


class _Part:
    """A part of an unpacked file."""

    damage: str | None = None

    def __init__(self, descriptor: int, start: int, end: int) -> None:
        self._descriptor = descriptor
        self._start = start
        self._end = end

    def size(self) -> int:
        return self._end - self._start

    def read_at(self, offset: int, length: int) -> bytes:
        length = min(length, self._end - self._start - offset)
        return os.pread(self._descriptor, length, self._start + offset) if length > 0 else b""

    def close(self) -> None:
        pass


class Sieve:
    """Looks for lines with `needles`; None of them, or no ripgrep: every line may do."""

    def __init__(self, home: Home, ripgrep: Ripgrep | None, needles: Sequence[str] | None, stop: Stop) -> None:
        self._home = home
        self._ripgrep = ripgrep if needles is not None else None
        self._needles = needles or ()
        self._stop = stop
        self._real = isinstance(home.fs, RealFileSystem)
        self._first_look: FirstLook | None = None
        self.failed = False

    def begin(self) -> None:
        """Look at all plain files of the home at once, while somebody finds out which of them matter."""
        if self._ripgrep is not None and self._real and self._first_look is None:
            self._first_look = FirstLook(self._home, self._ripgrep, self._needles, self._stop)

    def close(self) -> None:
        """Wait for what still runs; `stop` tells it to end."""
        if self._first_look is not None:
            self._first_look.join()

    def told_empty(self) -> Callable[[Listed], bool] | None:
        """What tells of a listed file that there is nothing in it; None where the whole home was not looked at. Waits
        for the look to end."""
        if self._first_look is None:
            return None
        self._first_look.join()
        return self._first_look.is_empty

    def plain(self, pieces: Sequence[Piece]) -> Iterator[Sieved]:
        """What there is to look at in plain files; the others come as they are asked for in `unpacked`."""
        ripgrep = self._ripgrep
        if ripgrep is None:
            yield from (Sieved(piece, None) for piece in pieces)
            return
        folder = self._home.path
        above = f"{folder}/"
        names: dict[str, list[Piece]] = {}
        for piece in pieces:
            names.setdefault(str(piece.link.file.path).removeprefix(above), []).append(piece)
        for large in (False, True):
            some = [name for name, held in names.items() if is_large(held[0].link.file.size) == large]
            for part in _by_length(some):
                yield from self._in_files(ripgrep, folder, part, names, large=large)

    def _in_files(
        self, ripgrep: Ripgrep, folder: Path, part: Sequence[str], names: dict[str, list[Piece]], *, large: bool
    ) -> Iterator[Sieved]:
        try:
            found, whole = ripgrep.in_files(folder, part, self._needles, stop=self._stop, large=large)
        except RipgrepFailed:
            self.failed = True
            yield from (Sieved(piece, None) for name in part for piece in names[name])
            return
        for name in part:
            lines = found.get(name)
            if lines is None and not whole and not _readable(folder / name):
                # It was packed or moved meanwhile, or cannot be read: whoever reads it will see.
                yield from (Sieved(piece, None) for piece in names[name])
            elif lines is not None:
                yield from (Sieved(piece, lines) for piece in names[name])

    def one(self, piece: Piece) -> Sieved:
        """What there is to look at in one file."""
        found = next(iter(self.plain([piece])), None) if self.is_plain(piece) else Sieved(piece, None)
        return found or Sieved(piece, ())

    def is_plain(self, piece: Piece) -> bool:
        """Whether ripgrep can look at a file where it lies."""
        return self._real and not piece.link.file.name.compressed

    def unpacked(
        self, pieces: Sequence[Piece], take: Callable[[Sieved], _T]
    ) -> Generator[tuple[list[Piece], list[_T]]]:
        """Unpack files, two batches at a time, and give what `take` makes of those that have something to look at,
        batch by batch in the order of the pieces. `take` runs in threads of its own."""
        batches = list(_batches(pieces))
        if not batches:
            return
        with ThreadPoolExecutor(_WORKERS, thread_name_prefix="clew-search") as pool:
            waiting: list[tuple[list[Piece], Future[list[_T]]]] = []
            try:
                for batch in batches:
                    waiting.append((batch, pool.submit(self._batch, batch, take)))
                    if len(waiting) > 2 * _WORKERS:
                        first, future = waiting.pop(0)
                        yield first, future.result()
                while waiting:
                    first, future = waiting.pop(0)
                    yield first, future.result()
            finally:
                for _, future in waiting:
                    future.cancel()

    def _batch(self, batch: Sequence[Piece], take: Callable[[Sieved], _T]) -> list[_T]:
        with contextlib.closing(_spool(batch)) as spool:
            # By piece: where its text begins and ends, and why it cannot be read.
            places: list[tuple[Piece, int, int, str | None]] = []
            end = 0
            for piece in batch:
                start = end
                error = None
                try:
                    end = self._unpack(piece, spool, start)
                except OSError as failure:
                    error = failure.strerror or str(failure)
                    end = spool.seek(0, os.SEEK_END)
                places.append((piece, start, end, error))
                if end > start:
                    spool.write(b"\n")  # so that no line reaches into the next file
                    end += 1
            spool.flush()
            descriptor = spool.fileno()
            lines = self._lines(descriptor)
            out: list[_T] = []
            at = 0
            for piece, start, end, error in places:
                own: list[int] | None = None
                if lines is not None:
                    first = at
                    while at < len(lines) and lines[at] < end:
                        at += 1
                    own = [line - start for line in lines[first:at]]
                if own is None or own or error:
                    out.append(take(Sieved(piece, own, _Part(descriptor, start, end), error)))
            return out

    def _unpack(self, piece: Piece, spool: IO[bytes], start: int) -> int:
        """Write a file's text behind `start`; gives its end."""
        end, limit = start, piece.link.end
        with contextlib.closing(text_blocks(self._home.fs, piece.link.file)) as blocks:
            for block in blocks:
                if self._stop():
                    raise SearchStopped
                if limit is not None and end - start + len(block) > limit:
                    block = block[: limit - (end - start)]
                spool.write(block)
                end += len(block)
                if limit is not None and end - start >= limit:
                    break
        return end

    def _lines(self, descriptor: int) -> list[int] | None:
        if self._ripgrep is None:
            return None
        try:
            return self._ripgrep.in_stream(descriptor, self._needles, stop=self._stop)
        except RipgrepFailed:
            self.failed = True
            return None


def _spool(batch: Sequence[Piece]) -> IO[bytes]:
    """A file without a name: it holds conversations, and is gone with the process."""
    size = sum(_text_size(piece) for piece in batch)
    if size <= _IN_MEMORY and hasattr(os, "memfd_create"):
        with contextlib.suppress(OSError):
            return open(os.memfd_create("clew-search"), "w+b")  # noqa: PTH123 - a descriptor
    return tempfile.TemporaryFile()


def _text_size(piece: Piece) -> int:
    return piece.link.file.size * (_RATIO if piece.link.file.compressed else 1)


def _batches(pieces: Sequence[Piece]) -> Iterator[list[Piece]]:
    batch: list[Piece] = []
    size = 0
    for piece in pieces:
        batch.append(piece)
        size += _text_size(piece)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _by_length(names: Sequence[str]) -> Iterator[list[str]]:
    """As many names as fit into one command line."""
    most = min(_ARGUMENTS, os.sysconf("SC_ARG_MAX") // 2)
    part: list[str] = []
    length = 0
    for name in names:
        part.append(name)
        length += len(name) * (1 if name.isascii() else 4) + _ARGUMENT
        if length >= most:
            yield part
            part, length = [], 0
    if part:
        yield part


def _readable(path: Path) -> bool:
    return os.access(path, os.R_OK)
