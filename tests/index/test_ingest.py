"""What is new in each file is taken once, whoever takes it and wherever it stopped."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import apsw
import msgspec
import pytest
from indexed import database, take, work

from clew.history.digest import Digest, digest_lines
from clew.history.told import told_by
from clew.index import digestion
from clew.index.digestion import LocalDigester
from clew.index.files import Packer, file_states, forget_file, known_files, unpack_digest
from clew.index.ingest import Digested, Report, ingest
from clew.index.sql import rows
from clew.index.texts import turn_text
from clew.index.words import put_titles, remove_documents
from clew.rollout import Home, RealFileSystem
from clew.testing.builders import ThreadBuilder


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(RealFileSystem(), tmp_path / "codex")


def matches(connection: apsw.Connection, expression: str) -> list[tuple[int, int]]:
    """Offsets and copied marks of what an expression finds, in no order."""
    statement = "SELECT d.offset, d.copied FROM words w JOIN docs d ON d.id = w.rowid WHERE words MATCH ?"
    return [(offset, copied) for offset, copied in rows(connection, statement, (expression,))]


def content(connection: apsw.Connection) -> list[tuple[object, ...]]:
    """Everything that is stored of documents and files, but for ids that depend on the order of work."""
    return list(
        rows(
            connection,
            "SELECT f.path, f.offset, f.digest, d.role, d.offset, d.at, d.turn, t.name, d.copied FROM files f"
            " LEFT JOIN docs d ON d.file = f.id LEFT JOIN tools t ON t.id = d.tool ORDER BY 1, 5, 4, d.id",
        )
    )


def test_what_was_said_is_found_where_it_stands(home: Home) -> None:
    built = ThreadBuilder("0.169").turn("Where is the needle?", "In the haystack.").turn("Again?", "Still there.")
    path = built.write(home)
    connection = database()

    assert take(connection, home) == Report(files=1, changed=1, bytes=len(built.data))

    ((offset, _),) = matches(connection, "haystack")
    line = path.read_bytes()[offset:].partition(b"\n")[0]
    assert b"In the haystack." in line
    assert line.startswith(b"{")
    (row,) = rows(connection, "SELECT turn FROM docs WHERE offset = ?", (offset,))
    assert turn_text(row[0]) == built.turn_ids[0]


def test_only_what_is_new_is_read(home: Home) -> None:
    built = ThreadBuilder("0.169").turn("One?", "First.")
    path = built.write(home)
    connection = database()
    before = take(connection, home)
    assert take(connection, home) == Report(files=1)

    path.write_bytes(built.turn("Two?", "Second.").data)

    assert take(connection, home) == Report(files=1, changed=1, bytes=len(built.data) - before.bytes)
    fresh = database()
    take(fresh, home)
    assert content(connection) == content(fresh)


def test_a_line_without_its_end_waits(home: Home) -> None:
    built = ThreadBuilder("0.169").turn("One?", "First.")
    path = built.write(home)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    connection = database()

    take(connection, home)
    assert next(iter(known_files(connection).values())).offset == whole[:-1].rindex(b"\n") + 1

    path.write_bytes(whole)
    take(connection, home)
    assert next(iter(known_files(connection).values())).offset == len(whole)


@pytest.mark.parametrize("change", ["truncated", "replaced", "edited"])
def test_a_file_that_is_another_one_is_taken_anew(home: Home, change: str) -> None:
    built = ThreadBuilder("0.169").turn("One?", "Aardvark.").turn("Two?", "Badger.")
    path = built.write(home)
    connection = database()
    take(connection, home)
    take(connection, home)

    other = ThreadBuilder("0.169").turn("One?", "Capybara.").data
    if change == "truncated":
        os.truncate(path, len(built.data) // 2)
    elif change == "replaced":
        path.with_suffix(".new").write_bytes(other)
        path.with_suffix(".new").replace(path)
    else:
        path.write_bytes(built.data.replace(b"Badger", b"Weasel") + b"\n")
    take(connection, home)

    fresh = database()
    take(fresh, home)
    assert content(connection) == content(fresh)
    assert bool(matches(connection, "badger")) is False


def test_the_index_tells_which_files_it_knows_as_they_are(home: Home) -> None:
    built = ThreadBuilder("0.169").turn("One?", "First.")
    path = built.write(home)
    connection = database()
    assert file_states(connection) == {}
    take(connection, home)
    ((name, state),) = file_states(connection).items()
    status = path.stat()
    assert (home.path / name, state) == (path, (status.st_size, status.st_mtime_ns, False))


def test_a_file_that_is_gone_is_forgotten_with_all_it_said(home: Home) -> None:
    built = ThreadBuilder("0.169").turn("One?", "First.")
    built.write(home)
    connection = database()
    take(connection, home)
    (known,) = known_files(connection).values()
    put_titles(connection, [(0, known.id, "A title")])

    remove_documents(connection, known.id)
    forget_file(connection, known.id)

    assert content(connection) == []
    assert matches(connection, "first OR title") == []
    assert list(rows(connection, "SELECT * FROM docs")) == []


def test_a_compressed_file_gives_the_same_as_a_plain_one(home: Home, tmp_path: Path) -> None:
    packed = Home(RealFileSystem(), tmp_path / "packed")
    built = ThreadBuilder("0.142").turn("One?", "First.").turn("Two?", "Second.")
    built.write(home)
    built.write(packed, compressed=True)
    plain_rows, packed_rows = database(), database()
    take(plain_rows, home)
    take(packed_rows, packed)

    assert content(plain_rows) == content(packed_rows)


def test_packing_a_file_costs_no_second_reading(home: Home) -> None:
    built = ThreadBuilder("0.169").turn("One?", "First.")
    path = built.write(home)
    connection = database()
    take(connection, home)
    path.unlink()
    built.write(home, compressed=True)

    assert take(connection, home) == Report(files=1, changed=0)
    assert next(iter(known_files(connection).values())).packed is True


def test_a_large_file_is_stored_in_pieces_and_goes_on_where_it_stopped(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = ThreadBuilder("0.169")
    for number in range(40):
        built.turn(f"Question {number}?", f"Answer {number}.")
    built.write(home)
    whole = database()
    take(whole, home)

    monkeypatch.setattr(digestion, "BLOCK", 1000)
    monkeypatch.setattr(digestion, "PIECE", 100)
    monkeypatch.setattr(digestion, "BATCH_TEXT", 200)
    connection = database()
    batches: list[int] = []
    stopped = ingest(
        connection,
        [LocalDigester(home.fs)],
        work(connection, home),
        progress=lambda report: batches.append(report.bytes),
        stop=lambda: len(batches) >= 3,
    )
    assert stopped.stopped
    assert 0 < next(iter(known_files(connection).values())).offset < len(built.data)
    take(connection, home)

    assert content(connection) == content(whole)


def test_a_line_that_is_too_long_is_passed_over_and_counted(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    built = (
        ThreadBuilder("0.169").turn("One?", "First.").raw(b'{"long":"' + b"x" * 5000 + b'"}\n').turn("Two?", "Zebra.")
    )
    built.write(home)
    monkeypatch.setattr(digestion, "BLOCK", 700)
    monkeypatch.setattr(digestion, "MAX_LINE", 4000)
    connection = database()
    take(connection, home)

    (known,) = known_files(connection).values()
    digest = known.digest()
    assert digest is not None
    assert (digest.skipped, digest.offset, digest.weights.total) == (1, len(built.data), len(built.data))
    assert len(matches(connection, "zebra")) == 1


def test_two_programs_that_take_the_same_file_store_it_once(home: Home, tmp_path: Path) -> None:
    ThreadBuilder("0.169").turn("One?", "First.").write(home)
    one = database(tmp_path / "index")
    todo = work(one, home)
    two = apsw.Connection(str(tmp_path / "index"))

    ingest(one, [LocalDigester(home.fs)], todo)
    ingest(two, [LocalDigester(home.fs)], todo)

    assert len(matches(one, "first")) == 1
    fresh = database()
    take(fresh, home)
    assert content(two) == content(fresh)


def test_other_tables_follow_in_the_same_transaction(home: Home) -> None:
    built = ThreadBuilder("0.169").turn("One?", "First.")
    built.write(home)
    connection = database()
    seen: list[Digested] = []

    def fail(rows: Sequence[Digested]) -> None:
        seen.extend(rows)
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        ingest(connection, [LocalDigester(home.fs)], work(connection, home), stored=fail)
    assert content(connection) == []
    digest = Digest(thread_id=built.id)
    digest_lines(digest, built.data)
    assert [(row.work.file.thread_id, row.told) for row in seen] == [(built.id, told_by(digest))]


def test_a_file_that_cannot_be_read_is_reported_and_the_rest_is_taken(home: Home) -> None:
    gone = ThreadBuilder("0.169", seed=1).turn("One?", "First.").write(home)
    ThreadBuilder("0.169", seed=2).turn("Two?", "Second.").write(home)
    connection = database()
    todo = work(connection, home)
    gone.unlink()

    report = ingest(connection, [LocalDigester(home.fs)], todo)

    assert [path for path, _ in report.failed] == [gone]
    assert len(matches(connection, "second")) == 1


def test_a_stored_digest_is_the_one_that_was_made() -> None:
    source = ThreadBuilder("0.169").turn("One?", "First.").turn("Two?", "Second.")
    for built in (source, source.fork(before=1).turn("Other?", "Third."), ThreadBuilder("0.29").turn("One?", "First.")):
        digest = Digest(thread_id=built.id)
        digest_lines(digest, built.data)
        assert digest.meta is not None
        kept = digest
        if digest.said_preview is not None:
            # It is in the row of the thread.
            kept = msgspec.structs.replace(digest, said_preview="", goal=None, inferred=None)
        assert unpack_digest(Packer().pack(digest)) == kept
    assert unpack_digest(Packer().pack(Digest())) == Digest()
