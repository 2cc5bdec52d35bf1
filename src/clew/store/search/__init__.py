"""Searching by looking at the files."""

from clew.store.search.ripgrep import bundled_ripgrep, find_ripgrep
from clew.store.search.scan import Scan, Searched

__all__ = ["Scan", "Searched", "bundled_ripgrep", "find_ripgrep"]
