"""What one process knows of its use of the index: counted as it goes, told at once."""

from __future__ import annotations

from collections import Counter

import msgspec

from clew.index.database import IndexUnavailable
from clew.store.index_status import IndexStatus, status_of
from clew.store.indexing import Indexing

__all__ = ["IndexStatistics", "index_statistics"]


class IndexStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The index of a home, and what came of asking it in this process since the home was opened.

    `status`: how it stands, None where it cannot be used now, which `unusable` explains. `answered`: how often it gave
    its rows; `made_anew`: how many of these answers were dropped because the disk said otherwise. `not_answered`: how
    often the files were read instead, by why: `incomplete` (it does not know all files yet, or too much changed at
    once), `busy` (others write it), `damaged`, `unusable` (no space, no right to write, made by a newer clew).
    `opened` and `rebuilt`: how often this process opened its file, and made it anew.
    """

    status: IndexStatus | None
    unusable: str | None = None
    answered: int = 0
    made_anew: int = 0
    not_answered: dict[str, int] = {}
    opened: int = 0
    rebuilt: int = 0


def index_statistics(indexing: Indexing) -> IndexStatistics:
    """A few counts over small tables: cheap enough for a monitor that asks every second."""
    status: IndexStatus | None = None
    unusable: str | None = None
    try:
        with indexing.database.using() as sql:
            status = status_of(indexing.database, sql)
    except IndexUnavailable as error:
        unusable = str(error)
    counts = Counter(indexing.counts)
    return IndexStatistics(
        status=status,
        unusable=unusable,
        answered=counts.pop("answered", 0),
        made_anew=counts.pop("made_anew", 0),
        not_answered=dict(counts),
        opened=indexing.database.opened,
        rebuilt=indexing.database.rebuilt,
    )
