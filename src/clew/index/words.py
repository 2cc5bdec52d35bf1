"""The words of all threads: one full-text table that keeps no text, and a table of where each document stands.

A document is one text of a line (or a thread's title). Its id follows its time, so that the newest come first by going
back over ids, and the documents of one file lie close together. Titles have ids of their own behind all others, in the
same order, so that they are found without going through the rest. What a document says is read again from the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from uuid import UUID

import apsw

from clew.history.said import Said
from clew.index.sql import rows, run, run_many

__all__ = [
    "ROLES",
    "TITLES",
    "TOKENIZER",
    "WORDS_DDL",
    "Document",
    "add_documents",
    "document_id",
    "put_title",
    "remove_documents",
    "turn_text",
]

ROLES = ("title", "user", "agent", "command", "file")
"""The columns of the full-text table, in order; `docs.role` is a place in it."""

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
_COLUMN = {role: place for place, role in enumerate(ROLES)}
_BEFORE = [(None,) * place for place in range(len(ROLES))]
_AFTER = [(None,) * (len(ROLES) - place - 1) for place in range(len(ROLES))]


Document = tuple[int, int, int, int, Said]
"""One text to be indexed: the time to order it by (milliseconds since 1970; that of a line near by where its own has
none), its file's id, the offset of its line, its place among the texts of a batch, and what it says."""


def document_id(milliseconds: int) -> int:
    """The smallest id of documents that are not older; behind `TITLES` the same for titles."""
    return max(0, milliseconds // 1000 - BEGINNING) << SHIFT


def add_documents(connection: apsw.Connection, documents: Iterable[Document]) -> None:
    """Insert texts; within a transaction. Updates the bounds in `files`."""
    ordered = sorted(documents)
    if not ordered:
        return
    try:
        with connection:
            _insert(connection, ordered, _ids(ordered))
    except apsw.ConstraintError:
        _insert(connection, ordered, _free_ids(connection, ordered))


def _insert(connection: apsw.Connection, ordered: Sequence[Document], ids: Sequence[int]) -> None:
    tools = _tools(connection, {said.tool for *_, said in ordered if said.tool is not None})
    bounds: dict[int, tuple[int, int]] = {}
    rows: list[tuple[object, ...]] = []
    texts: list[tuple[object, ...]] = []
    touched: set[tuple[str, int]] = set()
    turn_id, turn = None, None
    for place, (_, file, offset, _, said) in zip(ids, ordered, strict=True):
        column = _COLUMN[said.role]
        tool = tools[said.tool] if said.tool is not None else None
        if said.turn_id != turn_id:
            turn_id = said.turn_id
            turn = _turn(turn_id)
        rows.append((place, file, column, offset, said.at, turn, tool, said.copied))
        texts.append((place, *_BEFORE[column], said.text, *_AFTER[column]))
        first, _ = bounds.get(file, (place, place))
        bounds[file] = first, place
        if said.role == "file":
            touched.add((said.text[::-1], file))
    run_many(connection, _INSERT_DOC, rows)
    run_many(connection, _INSERT_WORDS, texts)
    run_many(connection, "INSERT OR IGNORE INTO touched (path, file) VALUES (?, ?)", touched)
    run_many(
        connection,
        "UPDATE files SET oldest = min(ifnull(oldest, ?1), ?1), newest = max(ifnull(newest, ?2), ?2) WHERE id = ?3",
        [(first, last, file) for file, (first, last) in bounds.items()],
    )


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


def put_title(connection: apsw.Connection, file: int, title: str | None, at: int) -> None:
    """Say what the title of a file's thread is now (None: it has none); within a transaction. `at`: milliseconds since
    1970, the time by which it is ordered."""
    for (before,) in rows(connection, "SELECT title FROM files WHERE id = ? AND title IS NOT NULL", (file,)):
        _remove(connection, [before])
    place = None
    if title:
        place = _first_free(connection, TITLES + document_id(at))
        run(connection, _INSERT_DOC, (place, file, 0, 0, at, None, None, 0))
        run(connection, _INSERT_WORDS, (place, title, None, None, None, None))
    run(connection, "UPDATE files SET title = ? WHERE id = ?", (place, file))


def turn_text(turn: bytes | str | None) -> str | None:
    """A turn's id as the log writes it."""
    return str(UUID(bytes=turn)) if isinstance(turn, bytes) else turn


def _turn(turn_id: str | None) -> bytes | str | None:
    if turn_id is None or len(turn_id) != 36 or turn_id[8] + turn_id[13] + turn_id[18] + turn_id[23] != "----":
        return turn_id
    digits = turn_id.replace("-", "")
    try:
        packed = bytes.fromhex(digits)
    except ValueError:
        return turn_id
    return packed if packed.hex() == digits and len(packed) == 16 else turn_id


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
