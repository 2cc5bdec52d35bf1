"""The words that begin with some letters, as a full-text table knows them.

For a beginning the full-text engine itself gathers every place of every word that begins so, before it tells the first
one. Asked for the words one by one it goes back over their places from the newest on, and ends where nobody asks on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import apsw

from clew.index.sql import row, rows, run
from clew.index.words import TOKENIZER

__all__ = ["MOST", "terms_beginning", "words_beginning"]

MOST = 600
"""Words that are asked for one by one; each takes some microseconds."""

# Each step looks up the first word behind the one before: a word's own places are passed over.
_NEXT = "SELECT term FROM temp.{table}_terms WHERE term >= {first} AND term < ?2 LIMIT 1"
_STEPS = (
    f"WITH RECURSIVE found (term) AS (SELECT ({_NEXT.replace('{first}', '?1')}) UNION ALL"
    f" SELECT ({_NEXT.replace('{first}', 'found.term || char(0)')}) FROM found WHERE found.term IS NOT NULL LIMIT ?3)"
    " SELECT term FROM found WHERE term IS NOT NULL"
)


def words_beginning(connection: apsw.Connection, letters: str) -> Sequence[str] | None:
    """All words that begin so, in their order; None where they are more than `MOST`, or where the letters are no
    beginning of one word."""
    tokenizer: Any = connection.fts5_tokenizer(*TOKENIZER)
    tokens: list[str] = tokenizer(
        letters.encode(errors="replace"), apsw.FTS5_TOKENIZE_QUERY, None, include_offsets=False, include_colocated=False
    )
    return terms_beginning(connection, "words", tokens[0], MOST) if len(tokens) == 1 else None


def terms_beginning(
    connection: apsw.Connection, table: Literal["words", "titles"], first: str, most: int
) -> Sequence[str] | None:
    """All terms of a full-text table that begin so, in their order; None where they are more than `most`."""
    if row(connection, "SELECT 1 FROM temp.sqlite_schema WHERE name = ?", (f"{table}_terms",)) is None:
        run(connection, f"CREATE VIRTUAL TABLE temp.{table}_terms USING fts5vocab (main, {table}, instance)")
    steps = _STEPS.replace("{table}", table)
    found = [term for (term,) in rows(connection, steps, (first, f"{first}\U0010ffff", most + 1))]
    return None if len(found) > most else found
