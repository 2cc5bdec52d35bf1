"""What the tests of the Python face share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Arguments of `clew.open` for empty homes and the offline model; the process stands in a folder of its own."""
    project = tmp_path / "project"
    project.mkdir()
    monkeypatch.chdir(project)
    env = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh"}
    homes = {"codex_home": tmp_path / "codex", "clew_home": tmp_path / "clew"}
    return {**homes, "provider": "offline", "env": env}


Words = dict[str, Any]
Call = Callable[..., Any]
