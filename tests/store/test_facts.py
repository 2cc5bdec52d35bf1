"""What is known of files: from the index where it covers them, else from their lines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from clew.history.digest import Digest
from clew.index.files import KnownFile, Packer
from clew.rollout import Home, RealFileSystem, RolloutFile
from clew.store.facts import FileFacts, facts_of, from_index, read_facts
from clew.store.queries import SearchProgress
from clew.testing import ThreadBuilder


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(RealFileSystem(), tmp_path)


def written(home: Home, *, compressed: bool = False) -> RolloutFile:
    ThreadBuilder("0.142").turn("Hello?").write(home, compressed=compressed)
    [file] = home.files()
    return file


def row_of(home: Home, file: RolloutFile, **changes: Any) -> KnownFile:
    """The row that the index has of a file, as it is or changed."""
    digest = read_facts(home, file).digest
    row = KnownFile(
        id=1,
        path=file.plain_path.relative_to(home.path).as_posix(),
        thread=file.thread_id,
        device=1,
        inode=1,
        size=file.size,
        mtime_ns=file.mtime_ns,
        packed=file.compressed,
        offset=digest.offset,
        tail_length=0,
        tail_sum=0,
        stored=Packer().pack(digest),
    )
    return msgspec.structs.replace(row, **changes)


@pytest.mark.parametrize("compressed", [False, True])
def test_what_the_index_covers_is_not_read(home: Home, compressed: bool) -> None:
    file = written(home, compressed=compressed)
    row = row_of(home, file)
    digest = read_facts(home, file).digest

    found = from_index(home, {row.path: row}.get)(file)

    assert found is not None
    assert (found.usage, found.weights, found.thread_id) == (digest.usage, digest.weights, digest.thread_id)


@pytest.mark.parametrize(
    "changes",
    [
        {"size": 1},
        {"mtime_ns": 1},
        {"packed": True},
        {"offset": 1},
        {"thread": "01a1f853-0000-7dd1-9931-b57fb7397706"},
        {"stored": None},
        {"stored": b"damaged"},
        {"path": "elsewhere"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_the_index_does_not_cover_is_read(home: Home, changes: dict[str, Any]) -> None:
    file = written(home)
    row = row_of(home, file, **changes)

    assert from_index(home, {row.path: row}.get)(file) is None
    [facts] = facts_of(home, [file], known=from_index(home, {row.path: row}.get))
    assert facts == read_facts(home, file)


def test_a_file_that_is_gone_is_told_and_holds_nothing(home: Home) -> None:
    file = written(home)
    file.path.unlink()

    [facts] = facts_of(home, [file])

    assert facts == FileFacts(file=file, digest=Digest(thread_id=file.thread_id), problem="No such file or directory")


def test_lines_are_put_together_across_blocks(home: Home) -> None:
    thread = ThreadBuilder("0.142")
    for number in range(40):
        thread.turn(f"Question {number}?", "word " * 20_000)
    thread.write(home)
    [file] = home.files()

    facts = read_facts(home, file)

    assert file.size > 4 << 20
    assert (facts.digest.offset, facts.digest.weights.total) == (file.size, file.size)
    assert len(facts.digest.usage.turns) == 40


def test_progress_counts_files_and_bytes_and_reading_ends_when_told(home: Home) -> None:
    for seed in range(3):
        ThreadBuilder("0.142", seed=seed).turn("Hello?").write(home)
    files = list(home.files())
    told: list[SearchProgress] = []

    found = list(facts_of(home, files, progress=told.append, stop=lambda: len(told) == 2))

    assert [one.file for one in found] == files[:2]
    whole = sum(file.size for file in files)
    assert told == [
        SearchProgress(1, 3, files[0].size, whole),
        SearchProgress(2, 3, files[0].size + files[1].size, whole),
    ]
