"""Ids as a contract: UUIDv7 for threads, turns, windows, segments and items."""

from __future__ import annotations

import os
import threading
import uuid
from typing import Protocol

from clew.clock import Clock, SystemClock

__all__ = ["IdSource", "SystemIds", "is_uuid", "uuid7_at"]


class IdSource(Protocol):
    """`uuid7` gives a fresh UUIDv7 as lower-case text; later calls sort after earlier ones."""

    def uuid7(self) -> str: ...


def uuid7_at(milliseconds: int, randomness: bytes) -> str:
    """The UUIDv7 (RFC 9562) of a moment: 48 bits of time, then 74 of the given 10 bytes of randomness."""
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | int.from_bytes(randomness[:10], "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return str(uuid.UUID(int=value))


class SystemIds:
    """Ids from the clock and the system's randomness, strictly rising within one process."""

    def __init__(self, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._last = 0
        self._sequence = 0

    def uuid7(self) -> str:
        with self._lock:
            milliseconds = int(self._clock.now() * 1000)
            if milliseconds > self._last:
                self._last, self._sequence = milliseconds, int.from_bytes(os.urandom(2), "big") & 0x7FF
            else:
                # Several ids in one millisecond, or a clock set back: count on in the 12 bits behind the time.
                self._sequence += 1
                if self._sequence > 0xFFF:
                    self._last, self._sequence = self._last + 1, 0
            return uuid7_at(self._last, self._sequence.to_bytes(2, "big") + os.urandom(8))


def is_uuid(text: str) -> bool:
    """Whether the text is a UUID in the usual 36-character form, in either case."""
    if len(text) != 36:
        return False
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False
