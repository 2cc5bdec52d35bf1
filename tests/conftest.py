"""What all tests share."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Tests that a shell started in the background run commands that can be interrupted all the same, as clew does.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes is the machine's affair.
settings.register_profile("clew", deadline=None)
settings.load_profile("clew")

# The store suite's asserts explain themselves only when this is said before any test imports it.
pytest.register_assert_rewrite(*(f"clew.testing.{name}" for name in ("catalog_checks", "log_checks", "store_bench")))

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with recorded homes and checkers (`CLEW_SHARED`, default `../shared`); skips where there is none."""
    folder = Path(os.environ.get("CLEW_SHARED", ROOT.parent / "shared")).resolve()
    if not (folder / "corpus").is_dir():
        pytest.skip(f"no recorded homes at {folder} (set CLEW_SHARED)")
    return folder
