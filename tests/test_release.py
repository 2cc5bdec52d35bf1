"""What clew says it is."""

from __future__ import annotations

from importlib.metadata import version

from clew.release import VERSION


def test_the_release_is_that_of_the_package() -> None:
    assert version("clew") == VERSION
