"""What the system's own errors mean to whoever wanted to write."""

from __future__ import annotations

import errno
from pathlib import Path

from clew.errors import ClewError, DiskFull, HomeUnwritable

__all__ = ["refusal"]


def refusal(error: OSError, path: Path, thread_id: str) -> ClewError:
    """The error for a thread that could not be opened, moved or given back. `path`: where the system names none."""
    named = Path(error.filename) if isinstance(error.filename, str) else path
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskFull(named)
    return HomeUnwritable(named, error.strerror or str(error), thread_id=thread_id)
