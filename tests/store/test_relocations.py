"""Folders that were moved: what is where now, and what is told about it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.clock import SystemClock
from clew.errors import BadRequest
from clew.rollout import FailPoints
from clew.store.checkouts import Candidate, Checkout, Identity, checkouts, find_moved
from clew.store.relocations import Move, Relocations
from clew.testing import MemoryFileSystem


class Disk:
    """Folders that are there."""

    def __init__(self, *folders: str) -> None:
        self.fs = MemoryFileSystem()
        self.folders = set(folders)

    def relocations(self, fail: FailPoints | None = None) -> Relocations:
        return Relocations(
            self.fs,
            Path("/clew"),
            clock=SystemClock(),
            is_folder=lambda folder: folder in self.folders,
            closed=("/", "/home/ada"),
            fail=fail,
        )


def test_a_folder_that_was_moved_is_found_with_all_below_it() -> None:
    disk = Disk("/new", "/new/src")
    moved = disk.relocations()
    moved.move("/old", "/new/")
    for folder, now in {
        "/old": "/new",
        "/old/": "/new",
        "/old/src": "/new/src",
        "/old/gone": "/old/gone",  # it is not there either
        "/older": "/older",
        "/": "/",
    }.items():
        assert moved.now(folder) == now
    # Another program reads the same.
    assert disk.relocations().now("/old/src") == "/new/src"
    assert disk.fs.stat(Path("/clew/relocations.jsonl")).size > 0


def test_a_move_counts_only_while_it_is_true() -> None:
    disk = Disk("/new")
    moved = disk.relocations()
    told = moved.move("/old", "/new")
    assert moved.moves() == (told,)
    disk.folders.add("/old")
    assert moved.now("/old") == "/old"
    assert [move.counts for move in moved.moves()] == [False]
    disk.folders -= {"/old", "/new"}
    assert moved.now("/old") == "/old"
    disk.folders |= {"/old", "/new"}
    with pytest.raises(BadRequest, match="/old is still there"):
        moved.move("/old", "/new")
    moved.move("/old", "/new", always=True)
    assert moved.now("/old") == "/new"


def test_moves_follow_each_other_and_are_undone() -> None:
    disk = Disk("/b")
    moved = disk.relocations()
    moved.move("/a", "/b")
    disk.folders = {"/c"}
    moved.move("/b", "/c")
    assert moved.now("/b") == "/c"
    # /b is not there any more: the first move leads nowhere by itself, and is told again.
    moved.move("/a", "/c")
    assert moved.now("/a") == "/c"
    assert moved.undo("/a") == Move(old="/a", new="/c", at=moved_at(moved, disk), counts=True)
    assert moved.now("/a") == "/a"
    moved.undo("/b")
    moved.undo("/a")
    assert moved.moves() == ()
    with pytest.raises(BadRequest, match="nobody told that /a was moved"):
        moved.undo("/a")


def moved_at(moved: Relocations, disk: Disk) -> str:
    import msgspec

    rows = [msgspec.json.decode(line) for line in disk.fs.read_bytes(Path("/clew/relocations.jsonl")).splitlines()]
    return next(row["at"] for row in rows if row["do"] == "move" and row["new"] == "/c" and row["old"] == "/a")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("/old", "/old/", "the same folder"),
        ("/old", "/nowhere", "there is no folder /nowhere"),
        ("/old", "/", "/ is too wide"),
        ("/old", "/home/ada", "/home/ada is too wide"),
        ("/new/inner", "/new", "/new is wider than /new/inner"),
        ("old", "/new", "no absolute path"),
        ("/old", "new", "no absolute path"),
    ],
)
def test_what_cannot_be_meant_is_refused(old: str, new: str, why: str) -> None:
    disk = Disk("/new", "/", "/home/ada")
    with pytest.raises(BadRequest, match=why):
        disk.relocations().move(old, new)
    assert disk.relocations().moves() == ()


NAMES = st.sampled_from(["/a", "/b", "/a/x", "/b/x", "/c/d", "/c"])


@given(st.lists(st.tuples(NAMES, NAMES), max_size=5), NAMES, st.sets(NAMES))
def test_a_folder_is_known_by_every_name_that_leads_to_it(
    moves: list[tuple[str, str]], folder: str, there: set[str]
) -> None:
    disk = Disk(*there)
    moved = disk.relocations()
    for old, new in moves:
        disk.folders = {new}
        if old != new and not old.startswith(f"{new}/"):
            moved.move(old, new)
    disk.folders = there
    # Whatever leads into the folder now is under one of its names; and each name leads there if all below it does.
    names = (folder, *moved.known_as(folder))
    for recorded in ("/a", "/b", "/c", "/a/x", "/b/x", "/c/d"):
        now = moved.now(recorded)
        if now == folder or now.startswith(f"{folder}/"):
            assert any(recorded == name or recorded.startswith(f"{name}/") for name in names)


class FakeGit:
    def __init__(self, commits: dict[str, set[str]]) -> None:
        self.commits = commits

    def __call__(self, folder: str, arguments: Sequence[str]) -> str | None:
        verb, _, what = arguments
        assert verb == "cat-file"
        return "" if what.removesuffix("^{commit}") in self.commits.get(folder, ()) else None


def test_a_folder_that_is_gone_is_known_again_by_its_repository(tmp_path: Path) -> None:
    inner = tmp_path / "clone" / "src" / "core"
    inner.mkdir(parents=True)
    clone, other, bare = str(tmp_path / "clone"), "/other", "/bare"
    all_ = [
        Checkout(folder=clone, repository="git@host.example:ada/parser.git"),
        Checkout(folder=other, repository="https://host.example/ada/lexer"),
        Checkout(folder=bare),
    ]
    git = FakeGit({clone: {"abc1234"}, bare: {"fff0000"}, other: {"abc1234"}})
    url = "https://ada:secret@HOST.example/ada/parser"
    both = "the same repository, and it has the commit"
    for identity, expected in (
        (
            Identity(folder="/gone/parser", repository=url, commits=frozenset({"abc1234"})),
            [Candidate(old="/gone/parser", new=clone, why=both, sure=True)],
        ),
        (
            Identity(folder="/gone/parser/src/core", repository=url),
            [Candidate(old="/gone/parser", new=clone, why="the same repository", sure=True)],
        ),
        (
            Identity(folder="/gone/x", commits=frozenset({"fff0000", "--help"}), threads=3),
            [Candidate(old="/gone/x", new=bare, why="it has the commit", sure=True, threads=3)],
        ),
        (
            Identity(folder="/gone/x", commits=frozenset({"abc1234"})),
            [
                Candidate(old="/gone/x", new=clone, why="it has the commit", sure=False),
                Candidate(old="/gone/x", new=other, why="it has the commit", sure=False),
            ],
        ),
        (Identity(folder="/gone/x", repository="https://else.example/x"), []),
    ):
        assert list(find_moved([identity], all_, git)) == expected


def test_checkouts_are_found_around_and_below_folders(tmp_path: Path) -> None:
    for name in ("one/.git", "one/src", "deep/er/two/.git", "deep/node_modules/three/.git"):
        (tmp_path / name).mkdir(parents=True)
    found = checkouts([str(tmp_path / "one" / "src")], [str(tmp_path / "deep")], lambda folder, _: folder)
    assert found == [
        Checkout(folder=str(tmp_path / name), repository=str(tmp_path / name)) for name in ("one", "deep/er/two")
    ]
