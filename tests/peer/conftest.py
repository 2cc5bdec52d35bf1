"""The real Codex, and a home per test."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers import Endpoint, Peer, World

_ROOT = Path(__file__).resolve().parents[2]

Codex = Callable[[str], Peer]


@pytest.fixture(scope="session")
def codex(shared: Path) -> Codex:
    """Gives a released Codex by version. It is looked for in `CLEW_PEER` (default `.peer` here) and, where it
    is missing, installed through npm: once, whichever worker comes first."""
    folder = Path(os.environ.get("CLEW_PEER", _ROOT / ".peer")).resolve()
    installer = shared / "acceptance" / "install_peer.sh"
    if not installer.is_file():
        pytest.skip(f"no {installer}")

    def peer(version: str) -> Peer:
        known = sorted((folder / version).glob("node_modules/@openai/*/vendor/*/**/codex"))
        if known:
            return Peer(version, known[0])
        if shutil.which("npm") is None:
            pytest.skip(f"Codex {version} is not in {folder}, and there is no npm to install it with")
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = subprocess.run(
                ["sh", str(installer), str(folder), version], capture_output=True, text=True, check=False
            )
        if done.returncode:
            pytest.skip(f"Codex {version} cannot be installed here: {done.stderr.strip()[-300:]}")
        return Peer(version, Path(done.stdout.strip()))

    return peer


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def world(tmp_path: Path, endpoint: Endpoint) -> World:
    return World(tmp_path, endpoint.url)
