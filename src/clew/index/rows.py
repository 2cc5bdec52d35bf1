"""What goes into the index and comes out of it: rows of threads, and what is asked of them."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Collection
from typing import Literal

import msgspec

__all__ = ["FoundRow", "RowOrder", "RowQuery", "ThreadRow", "id_from_key", "key_of"]

RowOrder = Literal["created", "updated", "recency", "name", "size"]


class ThreadRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What is kept of a thread: what it is sorted and filtered by, and `content`, which nobody looks into here.

    `updated` in nanoseconds and `recency` in milliseconds since 1970; `created` and `name` are texts that sort as
    moments and titles do; `title` is what texts are looked for in, in one case; `named` its name. `bases` are the files
    it inherits from, by the last ids of their names, and `named_bases` those among them that its own files name.
    """

    thread_id: str
    archived: bool
    created: str
    updated: int
    recency: int
    name: str
    size: int
    cwd: str | None
    source: str | None
    provider: str | None
    model: str | None
    branch: str | None
    repository: str | None
    parent: str | None
    named: str | None
    title: str
    content: bytes
    bases: tuple[str, ...] = ()
    named_bases: tuple[str, ...] = ()


class FoundRow(msgspec.Struct, frozen=True):
    """A thread that fits: its place in the order, its id, and its content."""

    key: int | str
    thread_id: str
    content: bytes


class RowQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What is looked for; all that is named must hold, and of `sources` and the like any of the words.

    `after` is a place (key and id) in the order that is passed already. `cwd` tells which folders fit. `since` and
    `until` bound `updated`, both within. `only` are the only threads that may fit. `text`: threads whose title does not
    hold it may come, too.
    """

    order: RowOrder
    ascending: bool
    after: tuple[int | str, str] | None = None
    archived: bool | None = None
    cwd: Callable[[str], bool] | None = None
    sources: tuple[str, ...] = ()
    providers: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    branch: str | None = None
    repository: str | None = None
    parent: str | None = None
    only: Collection[str] | None = None
    since: int | None = None
    until: int | None = None
    text: str | None = None


def key_of(thread_id: str) -> bytes:
    """An id as it is stored; texts that are no ids (a recorded parent can be anything) have a key, too."""
    if _USUAL(thread_id):
        return bytes.fromhex(thread_id.replace("-", ""))
    try:
        return uuid.UUID(thread_id).bytes
    except ValueError:
        return thread_id.encode()


_USUAL = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}").fullmatch


def id_from_key(key: bytes) -> str:
    if len(key) != 16:
        return key.decode(errors="replace")
    digits = key.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
