"""What git tells about the folder of a thread."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from clew.agent.repository import git_info

pytestmark = pytest.mark.anyio


def git(folder: Path, *arguments: str) -> str:
    settings = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
    done = subprocess.run(["git", *settings, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


async def test_outside_of_a_repository_there_is_nothing_to_tell(tmp_path: Path) -> None:
    assert await git_info(str(tmp_path)) == {}
    assert await git_info(str(tmp_path / "gone")) == {}


async def test_commit_branch_and_address_without_a_login(tmp_path: Path) -> None:
    git(tmp_path, "init")
    assert await git_info(str(tmp_path)) == {}
    git(tmp_path, "commit", "--allow-empty", "-m", "one")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert await git_info(str(tmp_path)) == {"commit_hash": head, "branch": "main"}
    git(tmp_path, "remote", "add", "origin", "https://me:secret@example.org/x.git")
    git(tmp_path, "checkout", "--detach")
    assert await git_info(str(tmp_path)) == {"commit_hash": head, "repository_url": "https://example.org/x.git"}
    git(tmp_path, "remote", "set-url", "origin", "git@example.org:x.git")
    assert (await git_info(str(tmp_path)))["repository_url"] == "git@example.org:x.git"
