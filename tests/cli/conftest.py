"""What the tests of the terminal face share."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from cli_home import FakeThreads

from clew.cli import opening
from clew.config import Config

_OWN = ("CODEX_API_KEY", "OPENAI_API_KEY", "OPENAI_BASE_URL", "CODEX_INTERNAL_ORIGINATOR_OVERRIDE", "FORCE_COLOR")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty homes below the test's folder; nothing of the person's own is seen. Gives the working folder."""
    for name in (
        "CODEX_API_KEY",
        "OPENAI_API_KEY",
        "OPENAI_BASE_URL",
        "CODEX_INTERNAL_ORIGINATOR_OVERRIDE",
        "FORCE_COLOR",
    ):
        monkeypatch.delenv(name, raising=False)
    for name in ("codex", "clew", "project"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CODEX_HOME", str(tmp_path / "codex"))
    monkeypatch.setenv("CLEW_HOME", str(tmp_path / "clew"))
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


@pytest.fixture
def use(homes: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[FakeThreads], FakeThreads]:
    """Let the commands open these threads."""

    def put(threads: FakeThreads) -> FakeThreads:
        @asynccontextmanager
        async def open_home(config: Config, program: str) -> AsyncGenerator[FakeThreads]:
            async with threads:
                yield threads

        monkeypatch.setattr(opening, "open_home", open_home)
        monkeypatch.setattr(opening, "open_library", open_home)
        return threads

    return put
