"""A thread's lines by their places: from any place on, and single ones again."""

from __future__ import annotations

import contextlib
import hashlib
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from clew.errors import LogDamaged
from clew.rollout.chain import check_readable, is_inherited, lineage, link_lines
from clew.rollout.envelope import Record, Skipped, decode_line
from clew.rollout.filesystem import FileIdentity
from clew.rollout.layout import Home, ThreadFiles
from clew.rollout.scan import Passes
from clew.rollout.source import open_source

__all__ = ["Mark", "ThreadLog"]

GAP = 1 << 15
"""Bytes between two lines that are read along rather than asked for separately."""

AT_ONCE = 1 << 22

TAIL = 1 << 16
"""Bytes before a place by which it is known again: in fewer there may be nothing but a part of a long answer, without
an id or a time."""


class Mark(NamedTuple):
    """A place between two lines: the number of the file in the chain (the oldest is 0), and the byte offset in it."""

    file: int = 0
    offset: int = 0


class ThreadLog:
    """The files of a thread as they are now. Holds none of them open.

    `version` tells whether marks of an earlier `ThreadLog` still count: they do while it is the same, since files only
    grow. Raises as `read_thread`.
    """

    def __init__(self, home: Home, files: ThreadFiles) -> None:
        check_readable(home, files.current)
        self._home = home
        chain = lineage(home, files.current)
        self._links = tuple(reversed(chain.links))
        self.damage: LogDamaged | None = chain.damage
        self.version: tuple[tuple[str, FileIdentity | None, int | None], ...] = tuple(
            (str(link.file.plain_path), self._identity(n), link.end) for n, link in enumerate(self._links)
        )

    def _identity(self, number: int) -> FileIdentity | None:
        try:
            return self._home.fs.stat(self._links[number].file.path).identity
        except OSError:
            return None

    def since(self, mark: Mark, *, passes: Passes | None = None) -> Iterator[tuple[int, Record | Skipped]]:
        """The lines behind a mark, oldest first, each with the number of its file. Line numbers do not count here."""
        for number in range(mark.file, len(self._links)):
            start = mark.offset if number == mark.file else 0
            for line in link_lines(self._home, self._links[number], start=start, passes=passes):
                yield number, line

    def at(self, number: int, places: Sequence[tuple[int, int]]) -> Iterator[Record | Skipped]:
        """Lines of one file by their `start` and `end`, in rising order. What is not there any more is left out."""
        link = self._links[number]
        try:
            source = open_source(self._home.fs, link.file)
        except OSError as error:
            yield Skipped(why=f"{link.file.plain_path} cannot be read: {error.strerror or error}")
            return
        with contextlib.closing(source):
            first = 0
            while first < len(places):
                last = first + 1
                begin = places[first][0]
                while (
                    last < len(places)
                    and places[last][0] - places[last - 1][1] <= GAP
                    and places[last][1] - begin <= AT_ONCE
                ):
                    last += 1
                try:
                    data = source.read_at(begin, places[last - 1][1] - begin)
                except OSError as error:
                    yield Skipped(
                        why=f"cannot be read: {error.strerror or error}", start=begin, end=places[last - 1][1]
                    )
                    data = b""
                for start, end in places[first:last]:
                    if raw := data[start - begin : end - begin]:
                        line = decode_line(raw.removesuffix(b"\n"), start=start, end=end)
                        if link.end is None or is_inherited(link, line):
                            yield line
                first = last

    def settled(self, mark: Mark) -> bool:
        """Whether the line before a mark is ended, so that nothing can be added to it."""
        if mark.offset == 0:
            return True
        try:
            with contextlib.closing(open_source(self._home.fs, self._links[mark.file].file)) as source:
                return source.read_at(mark.offset - 1, 1) == b"\n"
        except OSError:
            return False

    def before(self, mark: Mark) -> int:
        """Bytes of the whole log before a mark, unpacked."""
        return sum(link.end or 0 for link in self._links[: mark.file]) + mark.offset

    def seal(self, mark: Mark) -> bytes | None:
        """By what it is known in another process that everything before a mark is what it was: the seal stays the same
        while files only grow behind it. None where that cannot be told, or the line before the mark has no end."""
        if mark.file >= len(self._links) or any(identity is None for _, identity, _ in self.version):
            return None
        try:
            ends = [self._end(n, mark) for n in range(mark.file + 1)]
        except OSError:
            return None
        return None if None in ends else hashlib.sha256(repr((self.version, ends)).encode()).digest()

    def _end(self, number: int, mark: Mark) -> tuple[int, int] | None:
        """What a file looks like where it ends for a mark."""
        link, identity = self._links[number], self.version[number][1]
        if link.file.compressed:
            # Never written to: another content is another file.
            status = self._home.fs.stat(link.file.path)
            return (status.size, status.mtime_ns) if status.identity == identity else None
        end = mark.offset if number == mark.file else link.end
        if end is None:
            return None
        start = max(0, end - TAIL)
        with contextlib.closing(self._home.fs.open_read(link.file.path)) as file:
            tail = file.read_at(start, end - start)
            if file.identity() != identity:
                return None
        if len(tail) < end - start or (number == mark.file and end > 0 and not tail.endswith(b"\n")):
            return None
        return end, zlib.crc32(tail)
