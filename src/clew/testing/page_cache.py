"""What a simulated disk is made of: files with a page cache over what is durable, and folders with names."""

from __future__ import annotations

import random

__all__ = ["PAGE", "Effect", "Folder", "Node", "put_name"]

SECTOR = 512
PAGE = 4096


class Node:
    def __init__(self, number: int, mtime_ns: int) -> None:
        self.number = number
        self.durable = bytearray()
        self.cache = bytearray()
        self.dirty: set[int] = set()
        self.mtime_ns = mtime_ns
        self.mode = 0o600
        self.holder: object | None = None
        self.failures = 0
        """Syncs that failed: every file that was open then is told once."""

    def put(self, offset: int, data: bytes) -> None:
        """Pages become dirty as wholes, so that a later write saves what stands beside it too."""
        self.cache[offset : offset + len(data)] = data
        self.dirty.update(range(offset // PAGE, (offset + len(data) - 1) // PAGE + 1))

    def write_back(self, start: int, end: int) -> None:
        end = min(end, len(self.cache))
        if len(self.durable) < end:
            self.durable.extend(bytes(end - len(self.durable)))
        self.durable[start:end] = self.cache[start:end]

    def sync(self) -> None:
        for page in self.dirty:
            self.write_back(page * PAGE, (page + 1) * PAGE)
        self.dirty.clear()

    def forget(self, *, dropped: bool) -> None:
        """After a failed sync: the pages are no longer known as unwritten; with `dropped` they are no longer in memory
        either, and readers see what the disk has."""
        for page in self.dirty if dropped else ():
            start, end = page * PAGE, min((page + 1) * PAGE, len(self.cache))
            self.cache[start:end] = bytes(self.durable[start:end]).ljust(end - start, b"\0")
        self.dirty.clear()

    def lose_power(self, chance: random.Random | None) -> None:
        dirty = sorted(self.dirty)
        if dirty and chance is not None:
            start, end = max(dirty[0] * PAGE, 0), min((dirty[-1] + 1) * PAGE, len(self.cache))
            match chance.choice(("nothing", "everything", "blocks", "beginning")):
                case "everything":
                    self.sync()
                case "beginning":
                    fresh = len(self.durable) if start <= len(self.durable) <= end else start
                    self.write_back(start, chance.randint(fresh, end))
                case "blocks":
                    for page in dirty:
                        for at in range(page * PAGE, min((page + 1) * PAGE, len(self.cache)), SECTOR):
                            if chance.random() < 0.5:
                                self.write_back(at, at + SECTOR)
                case _:
                    pass
        self.dirty.clear()
        self.cache = bytearray(self.durable)
        self.holder = None


class Folder:
    def __init__(self, number: int) -> None:
        self.number = number
        self.mtime_ns = 0
        self.entries: dict[str, Node | Folder] = {}
        self.durable: dict[str, Node | Folder] = {}


Effect = tuple[Folder, str, "Node | Folder | None"]
"""A name in a folder and what it means from now on (None: it is gone)."""


def put_name(entries: dict[str, Node | Folder], name: str, node: Node | Folder | None) -> None:
    if node is None:
        entries.pop(name, None)
    else:
        entries[name] = node
