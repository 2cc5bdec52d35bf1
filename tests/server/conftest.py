"""What the tests of the servers share."""

from __future__ import annotations

from pathlib import Path

import pytest
from server_world import World


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
