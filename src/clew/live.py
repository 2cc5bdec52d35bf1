"""A thread while a turn runs on it: leased, loaded, recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import msgspec

from clew.history.context import Context
from clew.history.lines import HistoryMode
from clew.rollout.envelope import Line, Record
from clew.settings import Settings
from clew.store.contracts import Lease

__all__ = ["LiveThread", "as_record"]


class LiveThread:
    """What an engine sees of a thread (see `clew.engine.Live`).

    A new thread has no file yet: its `header` goes out with the first lines that are recorded, so a thread whose first
    turn never started leaves nothing behind.
    """

    def __init__(self, lease: Lease, context: Context, settings: Settings, *, header: Line | None = None) -> None:
        self._lease = lease
        self._header = header
        self.context = context
        self.settings = settings
        self.fresh = header is not None
        self.size = 0
        """Bytes of the log behind the last record."""

    @property
    def thread_id(self) -> str:
        return self._lease.thread_id

    @property
    def session_id(self) -> str:
        return self.context.session_id or self._lease.thread_id

    @property
    def history_mode(self) -> HistoryMode:
        return self.context.history_mode

    async def record(self, lines: Sequence[Line], *, durable: bool = True) -> None:
        """Append, and take the same lines into the context: what is in memory is what the log says."""
        # Encoded once, for the log and for the context.
        lines = [Line(line.type, _raw(line.payload), line.metadata) for line in lines]
        header, self._header = self._header, None
        # The lease keeps what it could not write, a header too: it must not be handed in twice.
        # Shielded: what was handed in goes out, so the context must learn of it, also when the caller is cancelled.
        with anyio.CancelScope(shield=True):
            self.size = await self._lease.append([header, *lines] if header else lines, durable=durable)
        for line in lines:
            self.context.apply(as_record(line))


def as_record(line: Line) -> Record:
    """A line as a reader of the log sees it."""
    return Record(type=line.type, payload=_raw(line.payload))


def _raw(payload: Any) -> msgspec.Raw:
    return payload if isinstance(payload, msgspec.Raw) else msgspec.Raw(msgspec.json.encode(payload))
