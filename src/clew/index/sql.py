"""SQLite as the rest of this room speaks it: statements in, typed rows out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

import apsw

__all__ = ["Row", "row", "rows", "run", "run_many"]

Row = tuple[Any, ...]


def rows(
    connection: apsw.Connection, statement: str, bindings: Sequence[Any] | Mapping[str, Any] = ()
) -> Iterator[Row]:
    """The rows of a query, each read when it is asked for."""
    return cast("Iterator[Row]", cast("Any", connection).execute(statement, bindings))


def row(connection: apsw.Connection, statement: str, bindings: Sequence[Any] | Mapping[str, Any] = ()) -> Row | None:
    """The first row of a query; None when there is none."""
    return cast("Row | None", cast("Any", connection).execute(statement, bindings).fetchone())


def run(connection: apsw.Connection, statement: str, bindings: Sequence[Any] | Mapping[str, Any] = ()) -> None:
    """One or more statements whose rows nobody needs."""
    cast("Any", connection).execute(statement, bindings)


def run_many(connection: apsw.Connection, statement: str, bindings: Iterable[Sequence[Any]]) -> None:
    """One statement once for each of the bindings."""
    cast("Any", connection).executemany(statement, bindings)
