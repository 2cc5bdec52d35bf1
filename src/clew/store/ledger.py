"""The books of one home: what its threads spent, and where its bytes are."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from clew.clock import Clock
from clew.rollout import Home
from clew.store.facts import Known
from clew.store.queries import ShowProgress, Stop
from clew.store.space import Space, space_of
from clew.store.stats import Stats, StatsQuery, stats_of

__all__ = ["HomeLedger"]


class HomeLedger:
    """The books of a Codex home. `known` gives what was found out about a file before; without it every file is
    read."""

    def __init__(self, home: Home, clew_home: Path, *, clock: Clock, known: Known | None = None) -> None:
        self._home = home
        self._clew_home = clew_home
        self._clock = clock
        self._known = known

    def stats(self, query: StatsQuery, *, stop: Stop | None = None, progress: ShowProgress | None = None) -> Stats:
        return stats_of(self._home, query, known=self._known, stop=stop, progress=progress)

    def space(
        self, thread_ids: Collection[str] = (), *, stop: Stop | None = None, progress: ShowProgress | None = None
    ) -> Space:
        return space_of(
            self._home,
            self._clew_home,
            thread_ids,
            clock=self._clock,
            known=self._known,
            stop=stop,
            progress=progress,
        )
