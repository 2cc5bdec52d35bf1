"""AGENTS.md: which files are read, in which order, and how much of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from clew.agent.agents_md import MOST_BYTES, AgentsText, read_agents_md


def write(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / name.replace("__", "/").replace("_md", ".md").replace("_override", ".override")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project" / ".git").mkdir(parents=True)
    return tmp_path / "project"


def test_nothing_is_said_where_there_are_no_files(home: Path, project: Path) -> None:
    assert read_agents_md(project, home) == AgentsText()


def test_personal_file_first_then_from_the_root_down(home: Path, project: Path) -> None:
    write(home, AGENTS_md="GLOBAL RULES\n")
    write(project, AGENTS_md="ROOT RULES\n", sub__AGENTS_md="no", sub__AGENTS_override_md="SUB OVERRIDE\n")
    write(project, sub__deep__AGENTS_md="DEEP RULES\n", other__AGENTS_md="elsewhere")
    deep = project / "sub" / "deep"
    assert read_agents_md(deep, home) == AgentsText(
        text="GLOBAL RULES\n\n--- project-doc ---\n\nROOT RULES\n\n\nSUB OVERRIDE\n\n\nDEEP RULES\n",
        directory=str(deep),
        files=(
            str(home / "AGENTS.md"),
            str(project / "AGENTS.md"),
            str(project / "sub" / "AGENTS.override.md"),
            str(deep / "AGENTS.md"),
        ),
    )


def test_without_a_marker_only_the_working_folder_counts(tmp_path: Path) -> None:
    write(tmp_path, AGENTS_md="above", sub__AGENTS_md="S\n\n")
    assert read_agents_md(tmp_path / "sub", None).text == "S\n\n"


def test_other_markers_can_be_named(tmp_path: Path) -> None:
    write(tmp_path, AGENTS_md="above", ROOT="", sub__AGENTS_md="below")
    assert read_agents_md(tmp_path / "sub", None, root_markers=("ROOT",)).text == "above\n\nbelow"
    assert read_agents_md(tmp_path / "sub", None, root_markers=()).text == "below"


def test_a_git_file_of_a_worktree_marks_the_root_too(tmp_path: Path) -> None:
    write(tmp_path, AGENTS_md="above", tree__AGENTS_md="root", tree__sub__AGENTS_md="sub")
    (tmp_path / "tree" / ".git").write_text("gitdir: elsewhere\n")
    assert read_agents_md(tmp_path / "tree" / "sub", None).text == "root\n\nsub"


def test_the_personal_text_alone_has_no_directory(home: Path, project: Path) -> None:
    write(home, AGENTS_override_md=" \n", AGENTS_md="  HOME \n\n")
    assert read_agents_md(project, home) == AgentsText(text="HOME", files=(str(home / "AGENTS.md"),))


def test_an_empty_override_silences_its_folder(home: Path, project: Path) -> None:
    write(project, AGENTS_override_md=" \n", AGENTS_md="ROOT\n", sub__AGENTS_md="SUB")
    assert read_agents_md(project / "sub", home).text == "SUB"


def test_other_names_are_taken_where_no_agents_md_is(project: Path) -> None:
    write(project, CLAUDE_md="claude", sub__AGENTS_md="agents", sub__CLAUDE_md="not this one")
    assert read_agents_md(project / "sub", None, fallback_names=("GUIDE.md", "CLAUDE.md")).text == "claude\n\nagents"


def test_project_files_are_cut_at_their_common_limit_and_that_is_told(home: Path, project: Path) -> None:
    write(home, AGENTS_md="h" * 40_000)
    write(project, AGENTS_md="a" * (MOST_BYTES - 8), sub__AGENTS_md="b" * 32, sub__x__AGENTS_md="c")
    found = read_agents_md(project / "sub" / "x", home)
    assert found.text == f"{'h' * 40_000}\n\n--- project-doc ---\n\n{'a' * (MOST_BYTES - 8)}\n\n{'b' * 8}"
    assert found.notices == (
        f"{project / 'sub' / 'AGENTS.md'} was cut: AGENTS.md files may be {MOST_BYTES} bytes long together.",
        f"{project / 'sub' / 'x' / 'AGENTS.md'} was left out: the files above it are {MOST_BYTES} bytes long already.",
    )


def test_a_cut_in_a_character_harms_nothing_and_zero_leaves_all_out(home: Path, project: Path) -> None:
    write(project, AGENTS_md="ä" * 4)
    assert read_agents_md(project, home, most_bytes=3).text == "ä\ufffd"
    assert read_agents_md(project, home, most_bytes=0) == AgentsText()


def test_folders_and_unreadable_bytes_are_no_obstacle(home: Path, project: Path) -> None:
    (project / "AGENTS.override.md").mkdir()
    (project / "AGENTS.md").write_bytes(b"caf\xe9")
    assert read_agents_md(project, home).text == "caf\ufffd"
    assert read_agents_md(project / "gone", home).directory == str(project / "gone")
