"""The real Codex, and a home per test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivers import Endpoint, Peer, PeerMissing, World, find_peer

Codex = Callable[[str], Peer]


@pytest.fixture(scope="session")
def codex(shared: Path) -> Codex:
    """Gives a released Codex by version; skips where there is none."""

    def peer(version: str) -> Peer:
        try:
            return find_peer(version, shared)
        except PeerMissing as missing:
            pytest.skip(str(missing))

    return peer


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def world(tmp_path: Path, endpoint: Endpoint) -> World:
    return World(tmp_path, endpoint.url)
