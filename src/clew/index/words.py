"""The words of all threads: one full-text table that keeps no text, and a table of where each document stands.

A document is one text of a line (or a thread's title). Its id follows its time, so that the newest come first by going
back over ids, and the documents of one file lie close together. Titles have ids of their own behind all others, in the
same order, so that they are found without going through the rest. What a document says is read again from the file.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import apsw

from clew.index.sql import rows, run, run_many
from clew.index.texts import ROLES, Text, stored_turn

__all__ = [
    "TITLES",
    "TOKENIZER",
    "WORDS_DDL",
    "Document",
    "add_documents",
    "document_id",
    "put_titles",
    "remove_documents",
]

TITLES = 1 << 42
"""Titles have ids from here on; what else was said never reaches it."""

TOKENIZER = ("unicode61", ["remove_diacritics", "0"])
"""What a word is, as the full-text table is told, too."""

WORDS_DDL = """
CREATE TABLE docs (
    id INTEGER PRIMARY KEY,
    file INTEGER NOT NULL,
    role INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    at INTEGER,
    turn BLOB,
    tool INTEGER,
    copied INTEGER NOT NULL
);
CREATE TABLE tools (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE touched (
    path TEXT NOT NULL,
    file INTEGER NOT NULL,
    PRIMARY KEY (path, file)
) WITHOUT ROWID;
CREATE INDEX touched_file ON touched (file);
CREATE VIRTUAL TABLE words USING fts5 (
    title, user, agent, command, file,
    content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 0'
);
INSERT INTO words (words, rank) VALUES ('automerge', 8);
INSERT INTO words (words, rank) VALUES ('usermerge', 2);
"""
"""`at` in milliseconds since 1970; `turn` a UUID's 16 bytes, or the text of another id; `touched.path` is written
backwards, so that an end can be looked up."""

BEGINNING = 1_577_836_800
"""2020 in seconds since 1970: ids count from here."""
SHIFT = 2
"""Ids per second, as a power of two; where more is said in a second, later ones are used up."""

_INSERT_DOC = "INSERT INTO docs (id, file, role, offset, at, turn, tool, copied) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_INSERT_WORDS = "INSERT INTO words (rowid, title, user, agent, command, file) VALUES (?, ?, ?, ?, ?, ?)"
_FILE = ROLES.index("file")
_BEFORE = [(None,) * place for place in range(len(ROLES))]
_AFTER = [(None,) * (len(ROLES) - place - 1) for place in range(len(ROLES))]

Document = tuple[int, int, int, int, Text]
"""One text to be indexed, behind what it is ordered by: its `order`, its file's id, its `offset`, and its place among
the texts of a batch."""


def document_id(milliseconds: int) -> int:
    """The smallest id of documents that are not older; behind `TITLES` the same for titles."""
    return max(0, milliseconds // 1000 - BEGINNING) << SHIFT


Bounds = dict[int, tuple[int, int]]
"""The smallest and the largest id of what files say, by the ids of the files."""


def add_documents(connection: apsw.Connection, documents: Sequence[Document]) -> Bounds:
    """Insert texts; within a transaction. Gives the bounds of what was inserted."""
    ordered = sorted(documents)
    if not ordered:
        return {}
    bounds: Bounds | None = None
    with contextlib.suppress(apsw.ConstraintError), connection:
        bounds = _insert(connection, ordered, _ids(ordered))
    return _insert(connection, ordered, _free_ids(connection, ordered)) if bounds is None else bounds


def _insert(connection: apsw.Connection, ordered: Sequence[Document], ids: Sequence[int]) -> Bounds:
    tools = _tools(connection, {text.tool for *_, text in ordered if text.tool is not None})
    oldest: dict[int, int] = {}
    newest: dict[int, int] = {}
    docs: list[tuple[object, ...]] = []
    words: list[tuple[object, ...]] = []
    touched: set[tuple[str, int]] = set()
    turn_id, turn = None, None
    for place, (_, file, offset, _, text) in zip(ids, ordered, strict=True):
        column = text.column
        if text.turn_id != turn_id:
            turn_id = text.turn_id
            turn = stored_turn(turn_id)
        tool = None if text.tool is None else tools[text.tool]
        docs.append((place, file, column, offset, text.at, turn, tool, text.copied))
        words.append((place, *_BEFORE[column], text.text, *_AFTER[column]))
        oldest.setdefault(file, place)
        newest[file] = place
        if column == _FILE:
            touched.add((text.text[::-1], file))
    run_many(connection, _INSERT_DOC, docs)
    run_many(connection, _INSERT_WORDS, words)
    run_many(connection, "INSERT OR IGNORE INTO touched (path, file) VALUES (?, ?)", sorted(touched))
    return {file: (oldest[file], newest[file]) for file in oldest}


def remove_documents(connection: apsw.Connection, file: int) -> None:
    """Take out all that a file says, its title included; within a transaction."""
    for oldest, newest, title in rows(connection, "SELECT oldest, newest, title FROM files WHERE id = ?", (file,)):
        ids = [
            row[0]
            for row in rows(
                connection, "SELECT id FROM docs WHERE id BETWEEN ? AND ? AND file = ?", (oldest, newest, file)
            )
        ]
        if title is not None:
            ids.append(title)
        _remove(connection, ids)
        run(connection, "DELETE FROM touched WHERE file = ?", (file,))
        run(connection, "UPDATE files SET oldest = NULL, newest = NULL, title = NULL WHERE id = ?", (file,))


def put_titles(connection: apsw.Connection, titles: Sequence[tuple[int, int, str | None]]) -> None:
    """Say what the names of threads are now, each by a file of its thread: the time by which it is ordered
    (milliseconds since 1970), the file's id, and the name (None: it has none). Within a transaction."""
    for at, file, title in sorted(titles, key=lambda entry: entry[:2]):
        for (before,) in rows(connection, "SELECT title FROM files WHERE id = ? AND title IS NOT NULL", (file,)):
            _remove(connection, [before])
        place = None
        if title:
            place = _first_free(connection, TITLES + document_id(at))
            run(connection, _INSERT_DOC, (place, file, 0, 0, at, None, None, 0))
            run(connection, _INSERT_WORDS, (place, title, None, None, None, None))
        run(connection, "UPDATE files SET title = ? WHERE id = ?", (place, file))


def _ids(ordered: Sequence[Document]) -> list[int]:
    """Rising ids by time. Files that were written in the same second begin at different places in it, so that they
    rarely meet."""
    ids: list[int] = []
    last = -1
    for order, file, *_ in ordered:
        place = (order // 1000 - BEGINNING << SHIFT) + (file & 3)
        last = place if place > last else last + 1
        ids.append(last)
    return ids


def _free_ids(connection: apsw.Connection, ordered: Sequence[Document]) -> list[int]:
    """The same, and none of them taken."""
    ids: list[int] = []
    last = -1
    for wanted in _ids(ordered):
        last = _first_free(connection, max(last + 1, wanted))
        ids.append(last)
    return ids


def _first_free(connection: apsw.Connection, wanted: int) -> int:
    for (found,) in rows(connection, "SELECT id FROM docs WHERE id >= ? ORDER BY id", (wanted,)):
        if found != wanted:
            break
        wanted += 1
    return wanted


def _remove(connection: apsw.Connection, ids: Sequence[int]) -> None:
    places = [(place,) for place in ids]
    run_many(connection, "DELETE FROM words WHERE rowid = ?", places)
    run_many(connection, "DELETE FROM docs WHERE id = ?", places)


def _tools(connection: apsw.Connection, names: set[str]) -> dict[str, int]:
    run_many(connection, "INSERT OR IGNORE INTO tools (name) VALUES (?)", [(name,) for name in names])
    return {name: place for place, name in rows(connection, "SELECT id, name FROM tools") if name in names}
