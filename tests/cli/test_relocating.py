"""`clew relocate` over a real home: threads follow their folder."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from clew.cli import main

_OFFLINE = ["-c", "model_provider=offline", "-a", "never"]

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(homes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"")))
        code = main(list(words))
        out, err = capsys.readouterr()
        return code, out, err

    return run


def _exec(run: Run, *words: str, sandbox: tuple[str, ...] = ()) -> tuple[int, str, str]:
    return run("exec", "--skip-git-repo-check", *_OFFLINE, *sandbox, *words)


def _rollouts(homes: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in (homes.parent / "codex").rglob("rollout-*.jsonl")}


def test_a_thread_goes_on_in_its_folder_where_that_is_now(
    run: Run, homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = homes.parent / "lexer", homes.parent / "parser"
    (old / "extra").mkdir(parents=True)
    monkeypatch.chdir(old)
    rights = ("-s", "workspace-write", "--add-dir", str(old / "extra"), "--add-dir", str(homes.parent / "elsewhere"))
    assert _exec(run, "say: one", sandbox=rights)[0] == 0
    before = _rollouts(homes)
    monkeypatch.chdir(homes)
    old.rename(new)

    code, _, err = _exec(run, "resume", "last", "say: two")
    assert (code, "clew relocate OLD NEW" in err) == (1, True)
    code, out, _ = run("relocate", str(old), str(new))
    assert (code, out) == (0, f"{old} is {new} now: 1 thread\n")
    assert _rollouts(homes) == before

    code, out, err = _exec(run, "resume", "last", "say: two")
    assert (code, out) == (0, "two\n")
    assert f"{old} is {new} now; {old}/extra is {new}/extra now" in err
    ((path, data),) = _rollouts(homes).items()
    assert data.startswith(before[path])
    contexts = [json.loads(line)["payload"] for line in data.splitlines() if b'"turn_context"' in line[:120]]
    sandbox = contexts[-1]["sandbox_policy"]
    assert contexts[-1]["cwd"] == str(new)
    assert sandbox["writable_roots"] == [str(new / "extra"), str(homes.parent / "elsewhere")]
    assert sandbox["network_access"] is False
    # It has said so, and says it no more.
    assert "now;" not in _exec(run, "resume", "last", "say: three")[2]


def test_threads_of_the_old_folder_are_listed_under_the_new_one(
    run: Run, homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = homes.parent / "lexer", homes.parent / "parser"
    (old / "src").mkdir(parents=True)
    monkeypatch.chdir(old / "src")
    assert _exec(run, "say: one")[0] == 0
    monkeypatch.chdir(homes)
    old.rename(new)
    assert json.loads(run("list", "--json", "--cwd", str(new))[1])["threads"] == []
    run("relocate", str(old), str(new))
    (thread,) = json.loads(run("list", "--json", "--cwd", str(new))[1])["threads"]
    assert json.loads(run("list", "--json", "--cwd", str(new / "src"))[1])["threads"] == [thread]
    # What a log says stays what it says.
    assert thread["cwd"] == str(old / "src")
    assert run("relocate", "--list")[1] == f"{old} -> {new}\n"
    assert run("relocate", "--undo", str(old))[1] == f"{old} is not {new} any more\n"
    assert json.loads(run("list", "--json", "--cwd", str(new))[1])["threads"] == []
    assert json.loads(run("relocate", "--list", "--json")[1]) == {"moves": []}


def test_the_new_folder_is_recorded_only_if_that_was_asked_for(
    run: Run, homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = homes.parent / "lexer", homes.parent / "parser"
    old.mkdir()
    monkeypatch.chdir(old)
    _exec(run, "say: one")
    before = _rollouts(homes)
    monkeypatch.chdir(homes)
    old.rename(new)
    code, out, _ = run("relocate", str(old), str(new), "--write")
    assert (code, out) == (0, f"{old} is {new} now: 1 thread\nRecorded in 1 thread\n")
    ((path, data),) = _rollouts(homes).items()
    (added,) = data[len(before[path]) :].splitlines()
    told = json.loads(added)["payload"]
    assert (told["type"], told["thread_settings"]["cwd"]) == ("thread_settings_applied", str(new))
    # Without the journal, too, the thread goes on there from now on; and there is nothing more to record.
    run("relocate", "--undo", str(old))
    assert _exec(run, "resume", "last", "say: two")[1] == "two\n"
    assert run("relocate", str(old), str(new), "--write")[1].endswith("Recorded in 0 threads\n")


def _git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)


def test_a_worktree_that_was_removed_leads_to_another_checkout(
    run: Run, homes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main_, tree = homes.parent / "main", homes.parent / "trees" / "fix"
    main_.mkdir()
    _git(main_, "init", "-q")
    (main_ / "a").write_text("a")
    _git(main_, "add", "a")
    _git(main_, "commit", "-qm", "a")
    _git(main_, "worktree", "add", "-q", str(tree))
    monkeypatch.chdir(tree)
    _exec(run, "say: one")
    monkeypatch.chdir(homes)
    _git(main_, "worktree", "remove", str(tree))

    code, out, _ = run("relocate", "--find")
    assert (code, out.startswith("Nothing found")) == (0, True)
    found = f"{tree} -> {main_} (1 thread; it has the commit)\n"
    code, out, _ = run("relocate", "--find", "--search", str(homes.parent))
    assert (code, out.startswith(found)) == (0, True)
    assert json.loads(run("relocate", "--list", "--json")[1]) == {"moves": []}
    code, out, _ = run("relocate", "--find", "--search", str(homes.parent), "--apply")
    assert (code, out) == (0, f"{found}1 told.\n")
    assert _exec(run, "resume", "last", "say: two")[1] == "two\n"


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("/old",),
        ("/old", "/new", "--find"),
        ("--list", "--undo", "/old"),
        ("--list", "--search", "/x"),
        ("--find", "--force"),
        ("--find", "--write"),
        ("/old", "/nowhere-at-all"),
    ],
)
def test_contradictions_are_wrong_usage(words: tuple[str, ...], run: Run) -> None:
    assert run("relocate", *words)[0] == 2
