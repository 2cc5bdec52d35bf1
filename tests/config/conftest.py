"""Homes in a temporary folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_homes import Homes


@pytest.fixture
def homes(tmp_path: Path) -> Homes:
    return Homes(tmp_path)
