"""What the tests of the tools share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from tool_bench import Bench

from clew.agent.sandbox import Confinement, Mechanism, detect
from clew.settings import SandboxMode


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    return folder


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """A small environment with an empty home, so that no profile speaks."""
    home = tmp_path / "home"
    home.mkdir()
    return {"PATH": os.environ.get("PATH", "/usr/bin:/bin"), "HOME": str(home)}


@pytest.fixture
def bench(project: Path, environment: dict[str, str]) -> Iterator[Bench]:
    """Full access, no questions, and no sandbox to be found."""
    made = Bench(project, environment, Confinement(mechanism=Mechanism.NONE, reason="none here"))
    yield made
    anyio.run(made.box.close)


@pytest.fixture(scope="session")
def confinement() -> Confinement:
    """What this machine has; skips where that is nothing."""
    found = detect(dict(os.environ))
    if not found.available:
        pytest.skip(f"no sandbox here: {found.reason}")
    return found


@pytest.fixture
def confined(project: Path, environment: dict[str, str], confinement: Confinement) -> Iterator[Bench]:
    """workspace-write within this machine's sandbox; /tmp stays closed, because the test's own folders are there."""
    made = Bench(project, environment, confinement, mode=SandboxMode.WORKSPACE_WRITE)
    made.sandbox = {"exclude_slash_tmp": True, "exclude_tmpdir_env_var": True}
    yield made
    anyio.run(made.box.close)
