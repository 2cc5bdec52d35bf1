"""What the tests of the documents share."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_FOREIGN = (
    "CODEX_API_KEY",
    "CODEX_INTERNAL_ORIGINATOR_OVERRIDE",
    "FORCE_COLOR",
    "OPENAI_API_KEY",
    "OPENAI_BASE_URL",
)


@pytest.fixture
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is UTC, as in the examples."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, utc: None) -> Path:
    """A person's home with the offline model and, inside, a project under version control, in which the test stands."""
    for name in _FOREIGN:
        monkeypatch.delenv(name, raising=False)
    project = tmp_path / "project"
    for folder in (project, tmp_path / ".codex", tmp_path / ".clew"):
        folder.mkdir()
    (tmp_path / ".codex" / "config.toml").write_text('model_provider = "offline"\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / ".codex"))
    monkeypatch.setenv("CLEW_HOME", str(tmp_path / ".clew"))
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.chdir(project)
    who = ("-c", "user.name=Ada", "-c", "user.email=ada@example.org")
    for command in (("init", "-q", "-b", "main"), (*who, "commit", "-q", "--allow-empty", "-m", "Begin")):
        subprocess.run(["git", *command], check=True, capture_output=True)
    return tmp_path
