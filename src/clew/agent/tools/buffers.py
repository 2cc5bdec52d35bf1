"""A byte buffer of bounded size that keeps the beginning and the end of what went through it."""

from __future__ import annotations

from collections import deque

from clew.agent.tools.truncation import omitted_mark

__all__ = ["BUFFER_LIMIT", "HeadTail"]

BUFFER_LIMIT = 1024 * 1024


class HeadTail:
    """Keeps the first and the last half of `limit` bytes; `total` counts all that came. Not safe between threads."""

    def __init__(self, limit: int = BUFFER_LIMIT) -> None:
        self._head_limit = limit // 2
        self._tail_limit = limit - limit // 2
        self._head = bytearray()
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self.total = 0

    def append(self, data: bytes) -> None:
        self.total += len(data)
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        if not data:
            return
        self._tail.append(data)
        self._tail_size += len(data)
        while self._tail_size - len(self._tail[0]) >= self._tail_limit:
            self._tail_size -= len(self._tail.popleft())

    @property
    def omitted(self) -> int:
        """How many bytes of the middle are lost."""
        return max(0, self.total - self._head_limit - self._tail_limit)

    def data(self) -> bytes:
        """What is kept, as it came; only whole while nothing is omitted."""
        return bytes(self._head) + b"".join(self._tail)

    def text(self) -> str:
        """What is kept, invalid UTF-8 replaced, with a marker where the middle is missing."""
        tail = b"".join(self._tail)
        omitted = self.omitted
        if not omitted:
            return (bytes(self._head) + tail).decode("utf-8", "replace")
        tail = tail[len(tail) - self._tail_limit :]
        head, end = self._head.decode("utf-8", "replace"), tail.decode("utf-8", "replace")
        return f"{head}\n{omitted_mark(omitted)}\n{end}"

    def take(self) -> HeadTail:
        """Hand out what is kept and start anew."""
        taken = HeadTail(self._head_limit + self._tail_limit)
        taken._head, taken._tail, taken._tail_size, taken.total = self._head, self._tail, self._tail_size, self.total
        self._head, self._tail, self._tail_size, self.total = bytearray(), deque(), 0, 0
        return taken
