"""The terminal face: parses, calls, renders. No rule about threads lives here."""

from __future__ import annotations

from clew.cli.entry import main

__all__ = ["main"]
