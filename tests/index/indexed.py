"""An index in memory over a home on disk, without the rest of the room."""

from __future__ import annotations

import re
from pathlib import Path

import apsw

from clew.index.digestion import LocalDigester, Work
from clew.index.files import known_files
from clew.index.ingest import Report, ingest
from clew.index.schema import FILES_DDL
from clew.index.sql import run
from clew.index.word_search import Words
from clew.index.words import WORDS_DDL
from clew.rollout import Home

TOKEN = re.compile(r"[^\W_]+")


def database(path: Path | str = ":memory:") -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(5000)
    run(connection, FILES_DDL + WORDS_DDL)
    return connection


def work(connection: apsw.Connection, home: Home) -> list[Work]:
    known = known_files(connection)
    found: list[Work] = []
    for file in home.files():
        path = str(file.plain_path.relative_to(home.path))
        found.append(Work(file=file, path=path, known=known.get(path)))
    return sorted(found, key=lambda entry: entry.path)


def take(connection: apsw.Connection, home: Home) -> Report:
    return ingest(connection, [LocalDigester(home.fs)], work(connection, home))


def words(text: str) -> Words:
    """Words, `"phrases"` and `beginnings*` as their tokens."""
    parts = re.findall(r'"[^"]*"|\S+', text)
    return tuple((tuple(TOKEN.findall(part)), part.endswith("*")) for part in parts if TOKEN.search(part))
