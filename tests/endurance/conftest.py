"""A model and a home per test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers import Endpoint, World


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as endpoint:
        yield endpoint


@pytest.fixture
def world(tmp_path: Path, endpoint: Endpoint) -> World:
    return World(tmp_path, endpoint.url)
