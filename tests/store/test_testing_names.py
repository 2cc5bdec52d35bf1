"""`clew.testing` gives its names when they are asked for, and costs nothing before."""

from __future__ import annotations

import subprocess
import sys

import pytest

import clew.testing
from clew.testing import catalog_checks, conformance, list_checks, log_checks


def test_every_public_name_is_there() -> None:
    for name in clew.testing.__all__:
        assert getattr(clew.testing, name) is not None
    assert dir(clew.testing) == sorted(clew.testing.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = clew.testing.nonsense  # pyright: ignore[reportAttributeAccessIssue] - that is the point


def test_importing_it_loads_nothing_heavy() -> None:
    heavy = ("msgspec", "anyio", "httpx2", "mcp")
    code = f"import sys, clew.testing; print(*[name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == ""


def test_no_check_is_forgotten() -> None:
    listed = [check.__name__ for check in (*conformance.CHECKS, *conformance.FILE_CHECKS)]  # pyright: ignore[reportAttributeAccessIssue,reportUnknownMemberType,reportUnknownVariableType] - functions
    assert sorted(listed) == sorted([*catalog_checks.__all__, *list_checks.__all__, *log_checks.__all__])
