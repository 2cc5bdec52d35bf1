"""Which clew this is. Said here alone: reading it from the installed package's metadata takes longer than a list."""

from __future__ import annotations

__all__ = ["VERSION"]

VERSION = "0.1.0"
