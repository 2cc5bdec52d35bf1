"""What was written in many steps is put together, and says the same."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from clew.index.database import Database, Sql
from clew.index.merging import merge_pieces


@pytest.fixture
def sql(tmp_path: Path) -> Iterator[Sql]:
    database = Database(tmp_path / "clew", tmp_path / "codex")
    with database.using() as sql:
        yield sql
    database.close()


def written(sql: Sql, steps: int) -> None:
    for step in range(steps):
        with sql.writing():
            sql.many(
                "INSERT INTO words (rowid, user) VALUES (?, ?)",
                [(step * 100 + number, f"word{number} step{step}") for number in range(100)],
            )


def pieces(sql: Sql) -> int:
    return sql.one("SELECT count(DISTINCT segid) FROM words_idx")


def holding(sql: Sql, word: str) -> list[int]:
    return [number for (number,) in sql.run("SELECT rowid FROM words WHERE words MATCH ? ORDER BY rowid", (word,))]


def test_one_piece_is_made_of_all_and_later_ones_are_put_together_by_size(sql: Sql) -> None:
    written(sql, 6)
    assert pieces(sql) > 3
    merge_pieces(sql, everything=True, stop=lambda: False)
    assert pieces(sql) == 1
    assert holding(sql, "word7") == [7, 107, 207, 307, 407, 507]

    with sql.writing():
        sql.run("INSERT INTO words (rowid, user) VALUES (9001, 'word7')")
    with sql.writing():
        sql.run("INSERT INTO words (rowid, user) VALUES (9002, 'word7')")
    with sql.writing():
        sql.run("DELETE FROM words WHERE rowid = 107")
    merge_pieces(sql, everything=False, stop=lambda: False)
    assert pieces(sql) <= 3
    assert holding(sql, "word7") == [7, 207, 307, 407, 507, 9001, 9002]


def test_where_there_is_nothing_to_do_nothing_is_written(sql: Sql, tmp_path: Path) -> None:
    written(sql, 6)
    merge_pieces(sql, everything=True, stop=lambda: False)
    other = Database(tmp_path / "clew", tmp_path / "codex")
    with other.using() as theirs:
        version = theirs.version
        merge_pieces(sql, everything=False, stop=lambda: False)
        assert theirs.version == version
    other.close()


def test_it_ends_when_it_is_told_to_and_goes_on_later(sql: Sql, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.index.merging.STEP", 1)
    written(sql, 6)
    asked = iter((False, True, True))
    merge_pieces(sql, everything=True, stop=lambda: next(asked))
    assert holding(sql, "word7") == [7, 107, 207, 307, 407, 507]
    merge_pieces(sql, everything=False, stop=lambda: False)
    assert pieces(sql) == 1
    assert holding(sql, "word7") == [7, 107, 207, 307, 407, 507]
