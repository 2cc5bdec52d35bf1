"""A thread while a turn runs on it: leased, loaded, recording."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import cast

from clew.history.context import Context
from clew.history.lines import HistoryMode
from clew.rollout.envelope import Line
from clew.settings import Settings
from clew.store.contracts import Lease

__all__ = ["LiveThread"]


class LiveThread:
    """What an engine sees of a thread (see `clew.engine.Live`).

    A new thread has no file yet: its header, made by `header`, goes out with the first lines that are recorded, so a
    thread whose first turn never started leaves nothing behind.
    """

    def __init__(
        self,
        lease: Lease,
        context: Context,
        settings: Settings,
        *,
        header: Callable[[], Awaitable[Line]] | None = None,
    ) -> None:
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
        return cast("HistoryMode", self.context.history_mode)

    async def record(self, lines: Sequence[Line], *, durable: bool = True) -> None:
        if self._header is not None:
            head = await self._header()
            # The lease keeps what it could not write, the header included: it must not be handed in twice.
            self._header = None
            lines = [head, *lines]
        self.size = await self._lease.append(lines, durable=durable)
