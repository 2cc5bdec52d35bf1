"""The full-text tables put in order: what was written in many steps lies in many pieces, and every word that is looked
up is looked for in each of them."""

from __future__ import annotations

from collections.abc import Callable

from clew.index.database import Sql

__all__ = ["merge_pieces"]

STEP = 500
"""Pages that are written in one transaction; others that write wait for no more."""
TABLES = ("words", "titles")


def merge_pieces(sql: Sql, *, everything: bool, stop: Callable[[], bool]) -> None:
    """Make one piece of those that are of a size, and with `everything` of all, which writes the tables once more. In
    transactions of its own; ends between two of them when `stop` tells so."""
    for table in TABLES:
        # A number below zero means pieces of any size, and is told once.
        pages = -STEP if everything else STEP
        while not stop():
            with sql.writing():
                before = sql.connection.total_changes()
                sql.run(f"INSERT INTO {table} ({table}, rank) VALUES ('merge', ?)", (pages,))
                # The statement itself counts as one.
                done = sql.connection.total_changes() - before < 2
            if done:
                break
            pages = STEP
