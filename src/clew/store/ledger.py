"""The books of one home: what its threads spent."""

from __future__ import annotations

from clew.rollout import Home
from clew.store.facts import Known
from clew.store.queries import ShowProgress, Stop
from clew.store.stats import Stats, StatsQuery, stats_of

__all__ = ["HomeLedger"]


class HomeLedger:
    """The books of a Codex home. `known` gives what was found out about a file before; without it every file is
    read."""

    def __init__(self, home: Home, known: Known | None = None) -> None:
        self._home = home
        self._known = known

    def stats(self, query: StatsQuery, *, stop: Stop | None = None, progress: ShowProgress | None = None) -> Stats:
        return stats_of(self._home, query, known=self._known, stop=stop, progress=progress)
