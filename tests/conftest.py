"""What all tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with recorded homes and checkers (`CLEW_SHARED`, default `../shared`); skips where there is none."""
    folder = Path(os.environ.get("CLEW_SHARED", ROOT.parent / "shared")).resolve()
    if not (folder / "corpus").is_dir():
        pytest.skip(f"no recorded homes at {folder} (set CLEW_SHARED)")
    return folder
