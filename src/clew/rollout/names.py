"""Rollout file names: `rollout-YYYY-MM-DDThh-mm-ss-<thread id>[_<segment id>].jsonl[.zst]`."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass
from datetime import datetime

__all__ = ["RolloutName", "canonical_id", "id_milliseconds"]

_UUID = r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}"
# The stamp is whatever stands before the UUID: names of other hands still carry the id.
_NAME = re.compile(rf"rollout-(?P<stamp>.*)-(?P<thread>{_UUID})(?:_(?P<segment>{_UUID}))?\.jsonl(?P<zst>\.zst)?")
_CANONICAL = re.compile(_UUID.replace("A-F", "")).fullmatch
_STAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}-[0-9]{2}-[0-9]{2}").fullmatch


@dataclass(frozen=True, slots=True)
class RolloutName:
    """The parts of a name. `stamp` is local time as text, exactly as it stands there; ids are lower-case."""

    stamp: str
    thread_id: str
    segment_id: str | None = None
    compressed: bool = False

    @classmethod
    def parse(cls, name: str) -> RolloutName | None:
        """None for a name that is no rollout's."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        segment = match["segment"]
        return cls(match["stamp"], match["thread"].lower(), segment.lower() if segment else None, bool(match["zst"]))

    def format(self) -> str:
        tail = f"_{self.segment_id}" if self.segment_id else ""
        return f"rollout-{self.stamp}-{self.thread_id}{tail}.jsonl{'.zst' if self.compressed else ''}"

    @property
    def rollout_id(self) -> str:
        """The last id in the name, by which forks refer to the file: the segment's, else the thread's."""
        return self.segment_id or self.thread_id

    @property
    def time(self) -> datetime | None:
        """The stamp as local time without zone, None when it is none."""
        # `strptime` takes ten times as long, and names are read by the hundred thousand.
        if _STAMP(self.stamp) is None:
            return None
        try:
            return datetime.fromisoformat(f"{self.stamp[:13]}:{self.stamp[14:16]}:{self.stamp[17:]}")
        except ValueError:
            return None


def canonical_id(text: str) -> str | None:
    """The lower-case 36-character form of a UUID in any usual spelling (upper case, `urn:uuid:`, braces, without
    hyphens); None for everything else."""
    if _CANONICAL(text):
        return text
    try:
        return str(uuid.UUID(text.strip()))
    except ValueError:
        return None


def id_milliseconds(thread_id: str) -> int | None:
    """The time a UUIDv7 was made, in milliseconds since 1970; None for other ids."""
    value = uuid.UUID(thread_id)
    return value.int >> 80 if value.version == 7 else None
