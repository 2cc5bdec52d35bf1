"""A store under test, and what checks of stores say and read. See `clew.testing.conformance`."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from clew.errors import (
    Owner,
)
from clew.history.metadata import read_meta
from clew.history.turns import turns
from clew.ids import SystemIds
from clew.rollout.envelope import Line, Record, Skipped
from clew.rollout.layout import Home
from clew.store.contracts import Catalog, LogStore, ThreadSummary
from clew.store.shelf import Shelf
from clew.testing.builders import BEGINNING, Era, ThreadBuilder

__all__ = [
    "ME",
    "PATIENCE",
    "Check",
    "Seed",
    "StoreUnderTest",
    "check_name",
    "conversation",
    "decoded",
    "fails",
    "fresh",
    "home_of",
    "ids_of",
    "meta",
    "new_id",
    "opened",
    "recorded",
    "records",
    "said",
    "shelf_of",
    "texts",
    "told",
    "turn_ids",
]

ME = Owner("conformance", os.getpid())
PATIENCE = 5.0
_HOUR = 3600.0


class Seed(Protocol):
    def __call__(self, thread: ThreadBuilder, *, archived: bool = False, compressed: bool = False) -> None:
        """Put a recorded thread into the store, as another program left it."""
        ...


@dataclass(frozen=True, kw_only=True)
class StoreUnderTest:
    """An empty store. `seed` puts recorded threads into it, `again` opens the same one as another program would;
    `home` is where its files are, if it has any; `shelf` where marks on its threads are kept."""

    logs: LogStore
    catalog: Catalog
    seed: Seed
    again: Callable[[], StoreUnderTest]
    home: Home | None = None
    shelf: Shelf | None = None


Check = Callable[[StoreUnderTest], Awaitable[None]]


def check_name(check: Check) -> str:
    """What a check demands, in words."""
    return str(getattr(check, "__name__", check)).replace("_", "-")


_ids = SystemIds()


def new_id() -> str:
    return _ids.uuid7()


def fresh(number: int, era: Era = "0.169", *, seed: int = 0, **shape: Any) -> ThreadBuilder:
    """The builder of a thread that began `number` hours after the first."""
    return ThreadBuilder(era, start=BEGINNING + number * _HOUR, seed=100 * seed + number, **shape)


def recorded(store: StoreUnderTest, number: int = 0) -> str:
    """A thread with one turn."""
    thread = fresh(number).turn("First?", "One.")
    store.seed(thread)
    return thread.id


def meta(thread_id: str, mode: str | None = "paginated") -> Line:
    payload = {"id": thread_id, "timestamp": "2026-07-01T12:00:00.000Z", "cwd": "/w", "originator": "conformance"}
    return Line("session_meta", {**payload, "cli_version": "1.0.0"} | ({"history_mode": mode} if mode else {}))


def said(text: str) -> Line:
    content = [{"type": "input_text", "text": text}]
    return Line("response_item", {"type": "message", "role": "user", "content": content})


def decoded(record: Record) -> Any:
    return msgspec.json.decode(record.payload)


def records(store: StoreUnderTest, thread_id: str) -> list[Record]:
    return [line for line in store.logs.read(thread_id) if isinstance(line, Record)]


def texts(store: StoreUnderTest, thread_id: str) -> list[str]:
    """What was appended with `said`, and other messages."""
    items = [decoded(record) for record in records(store, thread_id) if record.type == "response_item"]
    return [item["content"][0]["text"] for item in items if item["type"] == "message"]


def told(lines: Iterator[Record | Skipped] | Sequence[Record | Skipped]) -> list[tuple[Any, ...]]:
    """Lines without what depends on the way they were read."""
    return [
        (line.type, bytes(line.payload), line.ordinal, line.start, line.end)
        if isinstance(line, Record)
        else (line.why,)
        for line in lines
    ]


def conversation(store: StoreUnderTest, thread_id: str) -> list[tuple[str, list[str]]]:
    """The turns of a thread: status, and what was said in it."""
    mode = read_meta(store.logs.head(thread_id)).history_mode
    return [
        (turn.status, [_shown(item) for item in turn.items if item["type"] in ("userMessage", "agentMessage")])
        for turn in turns(store.logs.read(thread_id), mode)
    ]


def _shown(item: dict[str, Any]) -> str:
    return item["text"] if "text" in item else "".join(part.get("text", "") for part in item["content"])


def turn_ids(store: StoreUnderTest, thread_id: str) -> list[str]:
    mode = read_meta(store.logs.head(thread_id)).history_mode
    return [turn.id for turn in turns(store.logs.read(thread_id), mode)]


def ids_of(threads: Sequence[ThreadSummary]) -> list[str]:
    return [thread.id for thread in threads]


@contextmanager
def fails(kind: type[Exception]) -> Generator[list[Any]]:
    """The block must raise this error; the list holds it afterwards."""
    caught: list[Any] = []
    try:
        yield caught
    except kind as error:
        caught.append(error)
    else:
        raise AssertionError(f"{kind.__name__} was not raised")


@contextmanager
def opened(home: Home, path: Any) -> Generator[bytes]:
    file = home.fs.open_read(path)
    try:
        yield file.read_at(0, file.size())
    finally:
        file.close()


def home_of(store: StoreUnderTest) -> Home:
    assert store.home is not None, "this check is for stores that keep files"
    return store.home


def shelf_of(store: StoreUnderTest) -> Shelf:
    assert store.shelf is not None, "a store under test comes with its shelf"
    return store.shelf
