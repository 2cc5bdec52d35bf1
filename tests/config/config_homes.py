"""Homes in a temporary folder."""

from __future__ import annotations

from pathlib import Path

__all__ = ["Homes"]


class Homes:
    """A user's home with both configuration folders, and the environment that goes with it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.codex = root / ".codex"
        self.clew = root / ".clew"
        self.codex.mkdir()
        self.clew.mkdir()
        self.env = {"HOME": str(root)}

    def codex_file(self, text: str, name: str = "config.toml") -> Path:
        path = self.codex / name
        path.write_text(text)
        return path

    def clew_file(self, text: str, name: str = "config.toml") -> Path:
        path = self.clew / name
        path.write_text(text)
        return path
