"""What programs do one after the other in a home, because each counts on what another one would change.

    $CLEW_HOME/forks.lock    forking a thread by reference; moving threads that could be inherited from into the trash
    $CLEW_HOME/trash.lock    deleting, restoring, emptying

Whoever needs both takes them in this order. They are free when the program that holds them ends.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Literal

from clew.errors import HomeUnwritable
from clew.rollout import FileSystem, lock_within

__all__ = ["What", "alone", "alone_at_once"]

LOCK_SECONDS = 5.0

What = Literal["forks", "trash"]


@contextlib.contextmanager
def alone(fs: FileSystem, clew_home: Path, what: What) -> Generator[None]:
    """Nobody else does this meanwhile. Waits a few seconds for others; raises `HomeUnwritable` then."""
    with _held(fs, clew_home, what, LOCK_SECONDS) as got:
        if not got:
            raise HomeUnwritable(clew_home / f"{what}.lock", "another program keeps it locked")
        yield


@contextlib.contextmanager
def alone_at_once(fs: FileSystem, clew_home: Path, what: What) -> Generator[bool]:
    """The same without waiting: False when somebody else is at it. Raises `HomeUnwritable`."""
    with _held(fs, clew_home, what, 0.0) as got:
        yield got


@contextlib.contextmanager
def _held(fs: FileSystem, clew_home: Path, what: What, seconds: float) -> Generator[bool]:
    try:
        fs.make_folder(clew_home)
        file = fs.open_append(clew_home / f"{what}.lock")
    except OSError:
        # Nothing is deleted by way of a home that cannot be written, and forking needs none.
        yield True
        return
    with contextlib.closing(file):
        try:
            got = lock_within(file, seconds)
        except OSError as error:
            raise HomeUnwritable(clew_home / f"{what}.lock", error.strerror or str(error)) from error
        yield got
