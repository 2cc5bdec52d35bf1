"""The words that begin with some letters, as the full-text table knows them.

For a beginning the full-text engine itself gathers every place of every word that begins so, before it tells the first
one. Asked for the words one by one it goes back over their places from the newest on, and ends where nobody asks on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import apsw

from clew.index.sql import row, rows, run
from clew.index.words import TOKENIZER

__all__ = ["MOST", "words_beginning"]

MOST = 600
"""Words that are asked for one by one; each takes some microseconds."""

# Each step looks up the first word behind the one before: a word's own places are passed over.
_NEXT = "SELECT term FROM temp.terms WHERE term >= {} AND term < ?2 LIMIT 1"
_STEPS = (
    f"WITH RECURSIVE found (term) AS (SELECT ({_NEXT.format('?1')}) UNION ALL"
    f" SELECT ({_NEXT.format('found.term || char(1)')}) FROM found WHERE found.term IS NOT NULL LIMIT ?3)"
    " SELECT term FROM found WHERE term IS NOT NULL"
)


def words_beginning(connection: apsw.Connection, letters: str) -> Sequence[str] | None:
    """All words that begin so, in their order; None where they are more than `MOST`, or where the letters are no
    beginning of one word."""
    tokenizer: Any = connection.fts5_tokenizer(*TOKENIZER)
    tokens: list[str] = tokenizer(
        letters.encode(errors="replace"), apsw.FTS5_TOKENIZE_QUERY, None, include_offsets=False, include_colocated=False
    )
    if len(tokens) != 1:
        return None
    if row(connection, "SELECT 1 FROM temp.sqlite_schema WHERE name = 'terms'") is None:
        run(connection, "CREATE VIRTUAL TABLE temp.terms USING fts5vocab (main, words, instance)")
    first = tokens[0]
    found = [term for (term,) in rows(connection, _STEPS, (first, f"{first}\U0010ffff", MOST + 1))]
    return None if len(found) > MOST else found
