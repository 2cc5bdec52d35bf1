"""Time as a contract, so that a whole run can be replayed."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol

__all__ = ["Clock", "SystemClock", "local_stamp", "utc_stamp"]


class Clock(Protocol):
    """Wall time in seconds since 1970 (`now`) and a time that never goes back, in seconds (`monotonic`)."""

    def now(self) -> float: ...

    def monotonic(self) -> float: ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> float:
        return time.time()

    def monotonic(self) -> float:
        return time.monotonic()


def utc_stamp(seconds: float) -> str:
    """`2026-07-01T12:00:00.123Z`: UTC with exactly three fraction digits, as in the line envelope."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def local_stamp(seconds: float) -> str:
    """`2026-07-01T12-00-00`: local time as in rollout file names."""
    return f"{datetime.fromtimestamp(seconds):%Y-%m-%dT%H-%M-%S}"
