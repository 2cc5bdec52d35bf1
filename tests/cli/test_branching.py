"""`clew tree` and `clew diff` on real files."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clew.cli.entry import main
from clew.rollout import Home, RealFileSystem
from clew.testing import Call, ThreadBuilder


@pytest.fixture
def family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[ThreadBuilder, ThreadBuilder]:
    """A thread and a fork of it, each with a turn of its own."""
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "codex"))
    monkeypatch.setenv("CLEW_HOME", str(tmp_path / "clew"))
    home = Home(RealFileSystem(), tmp_path / "codex")
    root = ThreadBuilder("0.169").turn("Build it.", "Built.")
    fork = root.fork().turn("Test it.", "It fails.", calls=[Call("make test", "no\n")])
    root.turn("Ship it.", "Shipped.")
    for thread in (root, fork):
        thread.write(home)
    return root, fork


def test_a_tree_shows_forks_below_their_source(
    family: tuple[ThreadBuilder, ThreadBuilder], capsys: pytest.CaptureFixture[str]
) -> None:
    root, fork = family
    assert main(["tree"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{root.id}  ")
    assert first.endswith("  Build it.")
    assert second.startswith(f"└─ {fork.id}  ")
    assert f"(fork, after turn {root.turn_ids[0]})" in second
    assert main(["tree", fork.id[:13], "--json"]) == 0
    (top,) = json.loads(capsys.readouterr().out)["families"]
    assert (top["thread"]["id"], [child["thread"]["id"] for child in top["children"]]) == (root.id, [fork.id])


def test_a_diff_shows_both_sides_and_its_exit_code_says_whether_they_differ(
    family: tuple[ThreadBuilder, ThreadBuilder], capsys: pytest.CaptureFixture[str]
) -> None:
    root, fork = family
    assert main(["diff", fork.id]) == 1
    assert capsys.readouterr().out == (
        f"1 turn in common, up to turn 1 ({root.turn_ids[0]}).\n\n"
        f"< {root.id}  Build it.\n  1 turn since\n  2 > Ship it.\n      • Shipped.\n\n"
        f"> {fork.id}  Build it.\n  1 turn since\n  2 > Test it.\n      $ make test\n      • It fails.\n"
    )
    assert main(["diff", root.id, root.id]) == 0
    assert capsys.readouterr().out == "No difference: the same 2 turns.\n"
    assert main(["diff", root.id, fork.id, "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert (told["same"], told["common"], told["right"]["turns"][0]["user"]) == (False, 1, "Test it.")


def test_a_diff_of_what_is_not_there_is_trouble(
    family: tuple[ThreadBuilder, ThreadBuilder], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["diff", "nowhere-at-all", family[0].id]) == 2
    assert main(["diff", family[0].id]) == 2
    assert capsys.readouterr().err.count("Error:") == 2


def test_beside_each_other_on_a_wide_terminal(
    family: tuple[ThreadBuilder, ThreadBuilder],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def watched(stream: object) -> bool:
        return True

    monkeypatch.setattr("clew.cli.terminal.is_terminal", watched)
    for columns, together in (("160", True), ("80", False)):
        monkeypatch.setenv("COLUMNS", columns)
        assert main(["diff", family[1].id]) == 1
        lines = capsys.readouterr().out.splitlines()
        assert any("Ship it." in line and "Test it." in line for line in lines) == together
        assert max(map(len, lines)) <= int(columns)
