"""save, tag, pin, note, archive, delete, trash, retention: what they say to people and to programs."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clew.cli import main
from clew.rollout import Home, RealFileSystem
from clew.testing import ThreadBuilder
from clew.testing.store_bench import fresh

Run = Callable[..., str]


@pytest.fixture
def threads(homes: Path) -> tuple[ThreadBuilder, ThreadBuilder, ThreadBuilder]:
    """A thread, one that it spawned, and one more."""
    home = Home(RealFileSystem(), Path(os.environ["CODEX_HOME"]))
    root = fresh(0).turn("First?", "One.")
    child = fresh(1, meta={"parent_thread_id": root.id}).turn("Do it.", "Done.")
    other = fresh(9).turn("Alone?", "Yes.")
    for thread in (root, child, other):
        thread.write(home)
    return root, child, other


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line and gives its output; `fails` is the exit code of one that fails, whose errors it gives."""

    def run(*words: str, fails: int = 0) -> str:
        assert main(words) == fails
        out, err = capsys.readouterr()
        return err if fails else out

    return run


def test_a_thread_is_saved_under_a_name_that_tells_when_it_moves(threads: tuple[ThreadBuilder, ...], run: Run) -> None:
    root, _, other = threads
    assert run("save", "best") == f"{other.id} is saved as best\n"
    assert run("save", "best", root.id[:13]) == f"{root.id} is saved as best\nUntil now that was {other.id}\n"
    assert json.loads(run("save", "best", "best", "--json")) == {
        "name": "best",
        "thread_id": root.id,
        "moved_from": None,
    }
    assert "First?" in run("show", "best")
    assert run("save", "best", "--remove") == f"best leads to no thread any more; it led to {root.id}\n"
    assert "no thread is called best" in run("show", "best", fails=1)
    assert "control characters" in run("save", "a\tb", fails=2)


def test_marks_are_put_on_and_taken_off(threads: tuple[ThreadBuilder, ...], run: Run) -> None:
    root = threads[0]
    assert run("tag", root.id, "red", "blue") == "blue\nred\n"
    assert run("tag", root.id, "red", "--remove") == "blue\n"
    assert run("note", root.id, "try it on macOS") == run("note", root.id) == "try it on macOS\n"
    assert run("pin", root.id, "last") == f"{root.id} pinned\n{threads[2].id} pinned\n"
    assert run("unpin", "last") == f"{threads[2].id} unpinned\n"
    assert json.loads(run("tag", root.id, "--json")) == {
        "id": root.id,
        "tags": ["blue"],
        "pinned": True,
        "note": "try it on macOS",
        "names": [],
    }
    assert run("note", root.id, "--clear") == run("note", root.id) == ""
    (listed,) = [one for one in json.loads(run("list", "--json"))["threads"] if one["id"] == root.id]
    assert (listed["tags"], listed["pinned"]) == (["blue"], True)


def test_a_note_comes_from_standard_input(
    threads: tuple[ThreadBuilder, ...], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("two\nlines\n"))
    assert run("note", threads[0].id, "-") == "two\nlines\n"


def test_a_name_that_means_several_threads_tells_them_apart(threads: tuple[ThreadBuilder, ...], run: Run) -> None:
    root, _, other = threads
    run("rename", root.id, "best")
    run("rename", other.id, "best")
    said = run("show", "best", fails=1).splitlines()
    assert said[0].startswith("Error: 'best' fits 2 threads: ")
    assert [line.split()[0] for line in said[2:]] == [other.id, root.id]
    assert [line.split()[-1] for line in said[2:]] == ["best", "best"]


def test_what_goes_along_to_the_archive_is_told(threads: tuple[ThreadBuilder, ...], run: Run) -> None:
    root, child, _ = threads
    assert run("archive", root.id) == f"{root.id} archived, with 1 thread it spawned\n"
    (back,) = json.loads(run("unarchive", root.id, "--json"))
    assert (back["id"], back["archived"], back["also"]) == (root.id, False, [child.id])
    assert run("archive", root.id, "--only") == f"{root.id} archived\n"


def test_what_is_deleted_comes_back(threads: tuple[ThreadBuilder, ...], run: Run) -> None:
    root, child, other = threads
    told = run("delete", root.id, "--why", "no use").splitlines()
    assert told[:2] == [f"{root.id} deleted  First?", f"{child.id} deleted  Do it."]
    trash_id = told[2].removeprefix("Have it back: clew trash restore ")
    (row,) = run("trash").splitlines()
    columns = row.split("\t")
    assert columns[:1] + columns[3:] == [trash_id, f"{root.id},{child.id}", "First?", "clew delete", "no use"]
    (entry,) = json.loads(run("trash", "list", "--json"))
    assert [thread["id"] for thread in entry["threads"]] == [root.id, child.id]
    assert [one["id"] for one in json.loads(run("list", "--json"))["threads"]] == [other.id]
    assert run("trash", "restore", child.id) == f"{root.id} is back  First?\n{child.id} is back  Do it.\n"
    assert run("trash") == ""
    assert "no thread is called" in run("trash", "restore", root.id, fails=1)


def test_a_pinned_thread_is_kept_and_told_how_to_delete_it(threads: tuple[ThreadBuilder, ...], run: Run) -> None:
    run("pin", threads[0].id)
    assert f"clew unpin {threads[0].id}" in run("delete", threads[0].id, threads[2].id, fails=1)
    assert len(json.loads(run("list", "--json"))["threads"]) == 3


def test_the_trash_is_emptied_only_when_somebody_says_so(
    threads: tuple[ThreadBuilder, ...], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("delete", threads[0].id)
    assert "--yes" in run("trash", "empty", fails=2)
    assert run("trash", "empty", "--older-than", "1d", "--yes") == "There is nothing to remove.\n"

    class Person(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr(sys, "stdin", Person("n\n"))
    assert "Nothing was removed." in run("trash", "empty", fails=1)
    monkeypatch.setattr(sys, "stdin", Person("y\n"))
    assert run("trash", "empty").startswith("Removed 2 threads for good, ")
    assert (run("trash"), list(Path(os.environ["CLEW_HOME"], "trash").iterdir())) == ("", [])


def test_retention_shows_before_it_does(threads: tuple[ThreadBuilder, ...], run: Run) -> None:
    root, child, other = threads
    assert run("retention").startswith("There are no rules")
    rules = '[retention]\nkeep_newest = 1\n[retention.rules.old]\naction = "trash"\nolder_than = "1h"\n'
    Path(os.environ["CODEX_HOME"], "config.toml").write_text(rules)
    for thread, moment in ((root, 1), (child, 2), (other, 3)):
        for path in Path(os.environ["CODEX_HOME"]).rglob(f"*{thread.id}.jsonl"):
            os.utime(path, (1_700_000_000 + moment, 1_700_000_000 + moment))
    assert run("retention") == (
        f"{root.id} would be deleted with 1 it spawned (old)  First?\n"
        f"{other.id} kept: it is one of the newest 1 (old)\n"
        "Nothing was done yet: clew retention --apply\n"
    )
    assert run("trash") == ""
    done: dict[str, Any] = json.loads(run("retention", "--apply", "--json"))
    assert [(one["thread"]["id"], one["action"], one["also"], one["failed"]) for one in done["due"]] == [
        (root.id, "trash", [child.id], None)
    ]
    assert [one["id"] for one in json.loads(run("list", "--json"))["threads"]] == [other.id]
    assert root.id in run("trash", "restore", "last")


@pytest.mark.parametrize(
    "words",
    [
        ("delete",),
        ("pin",),
        ("tag", "last", "--remove"),
        ("note", "last", "text", "--clear"),
        ("note", "last", " "),
        ("trash", "restore"),
        ("trash", "list", "x"),
        ("trash", "throw"),
        ("trash", "restore", "x", "--older-than", "1d"),
        ("trash", "empty", "nothing"),
    ],
)
@pytest.mark.usefixtures("threads")
def test_wrong_usage_is_explained(words: tuple[str, ...], run: Run) -> None:
    assert run(*words, fails=2).startswith("Error: ")
