"""Searching by looking at the files."""

from clew.store.search.listing import Listed, listed_threads
from clew.store.search.ripgrep import bundled_ripgrep, find_ripgrep
from clew.store.search.scan import Scan, Searched

__all__ = ["Listed", "Scan", "Searched", "bundled_ripgrep", "find_ripgrep", "listed_threads"]
