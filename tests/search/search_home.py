"""A home on a real disk to search in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from clew.clock import SystemClock
from clew.rollout import FileSystem, Home, RealFileSystem, ThreadFiles
from clew.store.queries import SearchPage, SearchQuery, ShowProgress, Stop, ThreadSummary
from clew.store.search import Listed, Scan, Searched, bundled_ripgrep, listed_threads
from clew.testing import ThreadBuilder

__all__ = ["RIPGREP", "ScanHome", "exact", "pattern", "respelled"]

RIPGREP = bundled_ripgrep()


class ScanHome:
    """Threads in a folder, and a scan over them (`ripgrep` None: without). Their summaries are bare; `names` and
    `forked` say what is told of them, `asked` whose summaries were asked for."""

    def __init__(self, folder: Path, *, ripgrep: Path | None = RIPGREP, fs: FileSystem | None = None) -> None:
        self.home = Home(fs or RealFileSystem(), folder / "codex")
        self.cache = folder / "clew" / "cache"
        self.names: dict[str, str] = {}
        self.forked: dict[str, str] = {}
        self.asked: list[str] = []
        self.scan = self.again(ripgrep)

    def again(self, ripgrep: Path | None = RIPGREP) -> Scan:
        """The scan of another process."""
        return Scan(self.home, ripgrep, cache=self.cache, clock=SystemClock())

    def add(self, thread: ThreadBuilder, *, archived: bool = False, compressed: bool = False) -> str:
        thread.write(self.home, archived=archived, compressed=compressed)
        return thread.id

    def searched(self) -> list[Searched]:
        def summary(files: ThreadFiles) -> ThreadSummary:
            self.asked.append(files.thread_id)
            return ThreadSummary(
                id=files.thread_id,
                path="",
                archived=False,
                created_at="",
                updated_at="",
                size=0,
                forked_from=self.forked.get(files.thread_id),
            )

        return [
            Searched(thread_id, files, self.names.get(thread_id), summary, home=self.home)
            for thread_id, files in self._threads()
        ]

    def _threads(self) -> Iterable[tuple[str, ThreadFiles | Listed]]:
        if isinstance(self.home.fs, RealFileSystem):
            return listed_threads(self.home)
        return [(files.thread_id, files) for files in self.home.threads()]

    def search(
        self,
        query: SearchQuery,
        *,
        scan: Scan | None = None,
        stop: Stop | None = None,
        progress: ShowProgress | None = None,
    ) -> SearchPage:
        return (scan or self.scan).search(query, self.searched, stop=stop, progress=progress)

    def found(self, query: SearchQuery) -> list[str]:
        return [hit.thread.id for hit in self.search(query).hits]

    def inside(self, thread_id: str, query: SearchQuery) -> SearchPage:
        (thread,) = (one for one in self.searched() if one.files.thread_id == thread_id)
        return self.scan.occurrences(query, thread)


def exact(text: str, **more: Any) -> SearchQuery:
    return SearchQuery(text=text, mode="text", **more)


def pattern(text: str, **more: Any) -> SearchQuery:
    return SearchQuery(text=text, mode="regex", **more)


def respelled(thread: ThreadBuilder) -> ThreadBuilder:
    """The same lines as a program writes them that escapes slashes and whatever is not ASCII."""

    def change(data: bytes) -> bytes:
        lines = (json.loads(line) for line in data.splitlines())
        return b"".join(json.dumps(line).replace("/", "\\/").encode() + b"\n" for line in lines)

    return thread.edit(change)
