from __future__ import annotations

from pathlib import Path

import pytest

from clew.rollout import FileSystem, Home, RealFileSystem
from clew.testing.disk import MemoryFileSystem


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["real", "memory"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[FileSystem, Path]:
    """A file system and an empty folder in it."""
    if request.param == "real":
        return RealFileSystem(), tmp_path
    fs = MemoryFileSystem()
    root = Path("/disk")
    fs.make_folder(root)
    return fs, root


@pytest.fixture
def home() -> Home:
    return Home(MemoryFileSystem(), Path("/home/codex"))
