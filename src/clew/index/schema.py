"""The tables of the index. Everything in them is derived from the files of a home.

`folders` and `entries` are what the disk looked like when it was last looked at; `threads` holds a row per thread, made
from its files; `texts` gives numbers to what many threads share. A thread is `stale` while its row does not tell its
files as they are.
"""

from __future__ import annotations

from clew.index.words import WORDS_DDL

__all__ = ["DDL", "DIMENSIONS", "FILES_DDL", "LATE_DDL", "ORDERS", "SCHEMA_VERSION", "SIGNATURE"]

SCHEMA_VERSION = 4
"""An older index is made anew, a newer one is left alone."""

SIGNATURE = 0x636C6577
"""`application_id` of the file: "clew"."""

DIMENSIONS = ("cwd", "source", "provider", "model", "branch", "repository")
"""Columns of `threads` whose values are numbers of `texts`; NULL where a thread tells nothing."""

ORDERS = ("created", "updated", "recency", "name", "size")
"""Columns of `threads` that lists are sorted by."""

FILES_DDL = """
CREATE TABLE files (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL,
    thread TEXT NOT NULL,
    device INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    packed INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    tail_length INTEGER NOT NULL,
    tail_sum INTEGER NOT NULL,
    oldest INTEGER,
    newest INTEGER,
    title INTEGER,
    version INTEGER NOT NULL,
    digest BLOB NOT NULL
);
CREATE INDEX files_thread ON files (thread);
"""
"""`path` is relative to the home and without `.zst`, and no two rows have the same: a file is looked for by its thread
and its path, since an index of paths would take more than the paths do. `size`, `mtime_ns`, `device` and `inode` are
those of the file as it lay there (packed if `packed`) when it was read; `offset` counts unpacked bytes that were taken,
the last `tail_length` of them have the checksum `tail_sum`. `oldest` and `newest` bound the ids of its documents;
`title` is the one that holds its title."""

_BASE = """
CREATE TABLE facts (name TEXT PRIMARY KEY, value) WITHOUT ROWID;

CREATE TABLE folders (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE,
    archived INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL
);

CREATE TABLE entries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    folder INTEGER NOT NULL,
    name TEXT NOT NULL,
    thread BLOB NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    inode INTEGER NOT NULL,
    sure INTEGER NOT NULL,
    taken INTEGER NOT NULL DEFAULT 0,
    UNIQUE (folder, name)
);
CREATE INDEX entries_thread ON entries (thread);
CREATE INDEX entries_waiting ON entries (mtime_ns) WHERE NOT taken;
CREATE INDEX entries_unsure ON entries (id) WHERE NOT sure;

CREATE TABLE texts (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE);

CREATE TABLE threads (
    id INTEGER PRIMARY KEY,
    thread BLOB NOT NULL UNIQUE,
    stale INTEGER NOT NULL,
    version INTEGER NOT NULL,
    archived INTEGER,
    created TEXT,
    updated INTEGER,
    recency INTEGER,
    name TEXT,
    size INTEGER,
    cwd INTEGER,
    source INTEGER,
    provider INTEGER,
    model INTEGER,
    branch INTEGER,
    repository INTEGER,
    parent BLOB,
    named TEXT,
    content INTEGER
);
CREATE TABLE contents (id INTEGER PRIMARY KEY, data BLOB NOT NULL);
CREATE INDEX threads_stale ON threads (thread) WHERE stale;
CREATE INDEX threads_named ON threads (thread, named) WHERE named IS NOT NULL;
CREATE INDEX threads_parent ON threads (parent) WHERE parent IS NOT NULL;

CREATE TABLE bases (
    base BLOB NOT NULL,
    thread BLOB NOT NULL,
    direct INTEGER NOT NULL,
    PRIMARY KEY (base, thread)
) WITHOUT ROWID;
CREATE INDEX bases_thread ON bases (thread);

CREATE TABLE offsets (thread BLOB PRIMARY KEY, version BLOB NOT NULL, data BLOB NOT NULL) WITHOUT ROWID;

CREATE VIRTUAL TABLE titles USING fts5 (
    title, content = '', contentless_delete = 1, detail = none, tokenize = 'trigram case_sensitive 1'
);
INSERT INTO titles (titles, rank) VALUES ('usermerge', 2);
"""

_COVERED = ", ".join(DIMENSIONS)

DDL = _BASE + FILES_DDL + WORDS_DDL
"""`mtime_ns` of a folder is -1 where it may have changed since without telling; so may an entry that is not `sure`; one
that is `taken` was digested as it is. No entry gets the number of an earlier one: what a look found is written later,
by numbers. Paths are relative to the home. Ids are their 16 bytes. `version` counts how often a thread became stale.
`name` is what the order of names sorts by, `named` the name itself; `content` is a row of `contents`, packed, which
nobody looks into here. `bases` are the files, by the last id of their names, that a thread inherits from; `direct`
where one of its own files names it. `offsets` are `turn_places`, `version` the checksum of `data`."""

LATE_DDL = (
    "CREATE INDEX IF NOT EXISTS entries_hot ON entries (mtime_ns)",
    # Each order has an index of its own that also holds what is filtered by, so that walking it touches no other page.
    *(
        f"CREATE INDEX IF NOT EXISTS threads_by_{order} ON threads (archived, {order}, thread,"
        f" {'' if order == 'updated' else 'updated, '}{_COVERED})"
        " WHERE NOT stale"
        for order in ORDERS
    ),
    # A value that few threads have leads to them at once.
    *(
        f"CREATE INDEX IF NOT EXISTS threads_of_{dimension} ON threads ({dimension}, archived, updated) WHERE NOT stale"
        for dimension in DIMENSIONS
    ),
)
"""What only complete tables have: made when they are filled for the first time, these are full pages in order."""
