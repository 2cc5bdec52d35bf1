"""Threads out of the index: any order, any filter, from any place on, at a cost that follows the page.

A query goes one of two ways. Where one of its filters is met by few threads, those are collected and sorted. Otherwise
the index of the order is walked from the place on, and what does not fit is passed over; that is soon at an end, since
no filter left is rare.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, cast

import apsw

from clew.index.beginnings import terms_beginning
from clew.index.database import Sql
from clew.index.rows import FoundRow, RowQuery, ThreadRow, id_from_key, key_of

__all__ = ["ThreadTable"]

SOME, MANY = 32, 512
"""Contents that are read together, at first and later on."""
FEW = 2000
"""Threads that are collected and sorted rather than looked for along the order."""
GRAM = 3
"""Characters of the groups by which titles are found."""
GRAMS = 16
"""Of a text that is looked for, so many groups are asked for, the least common ones."""
TITLE_END = "\x01" * (GRAM - 1)
"""What titles are stored with, so that a group begins with each of their characters."""
SHORT_TERMS = 300
"""Groups that a text shorter than they are may begin; one of more is in the titles of many threads."""


class _Narrow(NamedTuple):
    """A way to the threads that meet one filter: a condition over `threads t`, its values, and how many there are, at
    most `FEW + 1`."""

    condition: str
    values: Sequence[Any]
    met: int


class ThreadTable:
    """The rows of threads behind one connection. Calls belong inside `Database.using`, those that change something into
    a transaction, and no table is used after one that was taken back."""

    def __init__(self, sql: Sql) -> None:
        self.sql = sql
        self._numbers: dict[str, int] = {}

    # -- writing

    def put(self, rows: Iterable[tuple[ThreadRow, int]]) -> dict[str, str | None]:
        """Give stale threads their rows, but for those that changed again since the version beside the row. Gives what
        the threads that got one were named before."""
        wanted = {key_of(row.thread_id): (row, version) for row, version in rows}
        if not wanted:
            return {}
        known = self.sql.run(
            "SELECT thread, version, id, content, named FROM threads WHERE thread IN (SELECT value FROM carray(?))"
            " ORDER BY id",
            (cast("Any", apsw).carray(tuple(wanted)),),
        )
        # In rising order: full-text tables take nothing else fast.
        chosen = [
            (number, thread, wanted[thread][0], old, named)
            for thread, version, number, old, named in known
            if wanted[thread][1] == version
        ]
        replaced = [(number, thread, old) for number, thread, _, old, _ in chosen if old is not None]
        if replaced:
            self.sql.many("DELETE FROM contents WHERE id = ?", [(old,) for _, _, old in replaced])
            self.sql.many("DELETE FROM titles WHERE rowid = ?", [(number,) for number, _, _ in replaced])
            self.sql.many("DELETE FROM bases WHERE thread = ?", [(thread,) for _, thread, _ in replaced])
        content = 1 + (self.sql.one("SELECT max(id) FROM contents") or 0)
        pack = self.sql.packing.pack
        # The newest threads lie together, as lists ask for them.
        newest = sorted(chosen, key=lambda one: one[2].updated, reverse=True)
        contents = {thread: content + place for place, (_, thread, *_) in enumerate(newest)}
        self.sql.many(
            "INSERT INTO contents (id, data) VALUES (?, ?)",
            [(contents[thread], pack(row.content)) for _, thread, row, _, _ in newest],
        )
        self.sql.many(
            "UPDATE threads SET stale = 0, archived = ?, created = ?, updated = ?, recency = ?, name = ?, size = ?,"
            " cwd = ?, source = ?, provider = ?, model = ?, branch = ?, repository = ?, parent = ?, named = ?,"
            " content = ? WHERE id = ?",
            [(*self._columns(row), contents[thread], number) for number, thread, row, _, _ in chosen],
        )
        self.sql.many(
            "INSERT INTO titles (rowid, title) VALUES (?, ?)",
            [(number, row.title + TITLE_END) for number, _, row, _, _ in chosen],
        )
        self.sql.many(
            "INSERT INTO bases VALUES (?, ?, ?)",
            [
                (key_of(base), thread, base in row.named_bases)
                for _, thread, row, _, _ in chosen
                for base in {*row.bases, *row.named_bases}
            ],
        )
        return {row.thread_id: named for _, _, row, _, named in chosen}

    def _columns(self, row: ThreadRow) -> tuple[Any, ...]:
        shared = (row.cwd, row.source, row.provider, row.model, row.branch, row.repository)
        return (
            row.archived,
            row.created,
            row.updated,
            row.recency,
            row.name,
            row.size,
            *(self._number(text) for text in shared),
            None if row.parent is None else key_of(row.parent),
            row.named,
        )

    def _number(self, text: str | None) -> int | None:
        if text is None:
            return None
        number = self._numbers.get(text) or self.sql.one("SELECT id FROM texts WHERE text = ?", (text,))
        if number is None:
            self.sql.run("INSERT INTO texts (text) VALUES (?)", (text,))
            number = self.sql.last_id
        self._numbers[text] = number
        return number

    def make_stale(self, thread_ids: Iterable[str]) -> None:
        """What is known of these threads does not hold any more."""
        self.sql.many(
            "UPDATE threads SET stale = 1, version = version + 1 WHERE thread = ?",
            [(key_of(thread_id),) for thread_id in thread_ids],
        )

    # -- reading

    def stale(self, limit: int) -> list[tuple[str, int]]:
        """Threads whose row must be made anew, newest first, with the version to do it for."""
        return [
            (id_from_key(thread), version)
            for thread, version in self.sql.run(
                "SELECT thread, version FROM threads INDEXED BY threads_stale WHERE stale ORDER BY thread DESC LIMIT ?",
                (limit,),
            )
        ]

    def versions(self, thread_ids: Iterable[str]) -> dict[str, int]:
        """The versions of those among these threads that are known."""
        keys = tuple(map(key_of, thread_ids))
        if not keys:
            return {}
        statement = "SELECT thread, version FROM threads WHERE thread IN (SELECT value FROM carray(?))"
        return {
            id_from_key(thread): version
            for thread, version in self.sql.run(statement, (cast("Any", apsw).carray(keys),))
        }

    def count(self) -> tuple[int, int]:
        """How many threads there are, and how many of them are stale."""
        return self.sql.one("SELECT (SELECT count(*) FROM threads), (SELECT count(*) FROM threads WHERE stale)")

    def content(self, thread_id: str) -> bytes | None:
        """None for a thread that is not there, or stale."""
        content = self.sql.one(
            "SELECT c.data FROM threads t JOIN contents c ON c.id = t.content WHERE t.thread = ? AND NOT t.stale",
            (key_of(thread_id),),
        )
        return None if content is None else self._unpacked(content)

    def contents(self, thread_ids: Iterable[str]) -> dict[str, bytes]:
        """The same for many threads, those alone that have one."""
        keys = tuple(map(key_of, thread_ids))
        if not keys:
            return {}
        found = self.sql.run(
            "SELECT t.thread, c.data FROM threads t JOIN contents c ON c.id = t.content"
            " WHERE t.thread IN (SELECT value FROM carray(?)) AND NOT t.stale",
            (cast("Any", apsw).carray(keys),),
        )
        return {id_from_key(thread): self._unpacked(content) for thread, content in found}

    def last_content(self, thread_id: str) -> bytes | None:
        """The same, stale or not."""
        content = self.sql.one(
            "SELECT c.data FROM threads t JOIN contents c ON c.id = t.content WHERE t.thread = ?", (key_of(thread_id),)
        )
        return None if content is None else self._unpacked(content)

    def _unpacked(self, content: bytes | None) -> bytes:
        """Nothing, where it is no content: whoever reads it finds out."""
        try:
            return b"" if content is None else self.sql.packing.unpack(content)
        except ValueError:
            return b""

    def beginning_with(self, prefix: str, limit: int) -> list[str]:
        """Ids that begin so, in their order."""
        digits = prefix.replace("-", "")
        if len(digits) > 32:
            return []
        low = bytes.fromhex(digits.ljust(32, "0"))
        high = bytes.fromhex(digits.ljust(32, "f"))
        found = (
            id_from_key(thread)
            for (thread,) in self.sql.run(
                "SELECT thread FROM threads WHERE thread BETWEEN ? AND ? ORDER BY thread LIMIT ?", (low, high, limit)
            )
        )
        return [thread_id for thread_id in found if thread_id.startswith(prefix)]

    def names(self) -> dict[str, str]:
        """The names of all threads that have one."""
        return {
            id_from_key(thread): named
            for thread, named in self.sql.run(
                "SELECT thread, named FROM threads INDEXED BY threads_named WHERE named IS NOT NULL"
            )
        }

    def descendants(self, ancestor: str) -> list[str]:
        """The threads that a thread spawned, at any depth, each behind the one that spawned it."""
        rows = self.sql.run(
            "WITH RECURSIVE below (thread, depth) AS (VALUES (?1, 0) UNION SELECT t.thread, min(below.depth + 1, 1000)"
            " FROM below JOIN threads t INDEXED BY threads_parent ON t.parent = below.thread)"
            " SELECT thread, min(depth) FROM below WHERE thread <> ?1 GROUP BY thread ORDER BY 2, 1",
            (key_of(ancestor),),
        )
        return [id_from_key(thread) for thread, _ in rows]

    def heirs(self, bases: Iterable[str]) -> list[str]:
        """The threads with a file that names one of these as its base, by the last ids of their names."""
        found: dict[str, None] = {}
        for base in bases:
            for (thread,) in self.sql.run("SELECT thread FROM bases WHERE base = ? AND direct", (key_of(base),)):
                found[id_from_key(thread)] = None
        return list(found)

    def select(self, query: RowQuery) -> Iterator[FoundRow]:
        """The threads that fit, in order, behind `query.after`; read as they are asked for."""
        filters = self._filters(query)
        if filters is None or (query.only is not None and not query.only):
            return
        narrow = self._narrowest(query, filters)
        if narrow is not None:
            yield from self._collected(query, filters, narrow)
        elif query.archived is not None:
            yield from self._walked(query, filters, query.archived)
        else:
            yield from _merged(
                self._walked(query, filters, False), self._walked(query, filters, True), ascending=query.ascending
            )

    def among(self, query: RowQuery) -> list[str] | None:
        """The threads that may fit, where they are few; None where they are many."""
        filters = self._filters(query)
        if filters is None or (query.only is not None and not query.only):
            return []
        narrow = self._narrowest(query, filters)
        if narrow is None:
            return None
        conditions, values = self._narrowed(query, filters, narrow)
        rows = self.sql.run(f"SELECT t.thread FROM threads t WHERE {' AND '.join(conditions)}", values)
        return [id_from_key(thread) for (thread,) in rows]

    def may_fit(self, query: RowQuery) -> Callable[[str], bool]:
        """What tells of a thread whether it may fit, without a look at its content."""
        filters = self._filters(query)
        if filters is None:
            return lambda thread_id: False
        conditions: list[str] = ["t.thread = ?", "NOT t.stale"]
        values: list[Any] = []
        if query.archived is not None:
            conditions.append("t.archived = ?")
            values.append(query.archived)
        if query.parent is not None:
            conditions.append("t.parent = ?")
            values.append(key_of(query.parent))
        self._bound(query, filters, conditions, values)
        statement = f"SELECT 1 FROM threads t WHERE {' AND '.join(conditions)}"
        only = query.only

        def may_fit(thread_id: str) -> bool:
            if only is not None and thread_id not in only:
                return False
            return self.sql.one(statement, (key_of(thread_id), *values)) is not None

        return may_fit

    # -- the two ways

    def _narrowed(self, query: RowQuery, filters: _Filters, narrow: _Narrow) -> tuple[list[str], list[Any]]:
        conditions, values = [narrow.condition, "NOT t.stale"], [*narrow.values]
        if query.archived is not None:
            conditions.append("t.archived = ?")
            values.append(query.archived)
        self._bound(query, filters, conditions, values)
        return conditions, values

    def _collected(self, query: RowQuery, filters: _Filters, narrow: _Narrow) -> Iterator[FoundRow]:
        conditions, values = self._narrowed(query, filters, narrow)
        if query.text and query.text.isascii():
            yield from self._holding(query, query.text.encode(), conditions, values)
        else:
            yield from self._run(query, "", conditions, values)

    def _holding(
        self, query: RowQuery, text: bytes, conditions: Sequence[str], values: Sequence[Any]
    ) -> Iterator[FoundRow]:
        """The same, without most of those whose title does not hold the text: some threads have its groups of
        characters elsewhere in their titles."""
        for found in self._run(query, "", conditions, values):
            if text in found.content.lower() or _FOLDED(found.content):
                yield found

    def _walked(self, query: RowQuery, filters: _Filters, archived: bool) -> Iterator[FoundRow]:
        conditions: list[str] = ["t.archived = ?", "NOT t.stale"]
        values: list[Any] = [archived]
        self._bound(query, filters, conditions, values)
        yield from self._run(query, f"INDEXED BY threads_by_{query.order}", conditions, values)

    def _bound(self, query: RowQuery, filters: _Filters, conditions: list[str], values: list[Any]) -> None:
        if query.after is not None:
            sign = ">" if query.ascending else "<"
            conditions.append(f"(t.{query.order}, t.thread) {sign} (?, ?)")
            values += [query.after[0], key_of(query.after[1])]
        for column, numbers in filters.items():
            conditions.append(f"t.{column} IN ({_marks(numbers)})")
            values += numbers
        if query.since is not None:
            conditions.append("t.updated >= ?")
            values.append(query.since)
        if query.until is not None:
            conditions.append("t.updated <= ?")
            values.append(query.until)

    def _run(self, query: RowQuery, index: str, conditions: Sequence[str], values: Sequence[Any]) -> Iterator[FoundRow]:
        way = "ASC" if query.ascending else "DESC"
        rows = self.sql.run(
            f"SELECT t.{query.order}, t.thread, t.id FROM threads t {index} WHERE {' AND '.join(conditions)}"
            f" ORDER BY t.{query.order} {way}, t.thread {way}",
            values,
        )
        some = SOME
        while part := list(islice(rows, some)):
            numbers = array("q", (number for _, _, number in part))
            contents = dict(
                self.sql.run(
                    "SELECT t.id, c.data FROM threads t JOIN contents c ON c.id = t.content"
                    " WHERE t.id IN (SELECT value FROM carray(?))",
                    (cast("Any", apsw).carray(numbers),),
                )
            )
            for key, thread, number in part:
                yield FoundRow(key, id_from_key(thread), self._unpacked(contents.get(number)))
            some = min(2 * some, MANY)

    # -- choosing

    def _filters(self, query: RowQuery) -> _Filters | None:
        """For each column that is filtered by, the numbers of the texts that fit; None when nothing can fit."""
        wanted: dict[str, Sequence[str]] = {
            "source": query.sources,
            "provider": query.providers,
            "model": query.models,
            "branch": () if query.branch is None else (query.branch,),
            "repository": () if query.repository is None else (query.repository,),
        }
        found: dict[str, list[int]] = {}
        for column, texts in wanted.items():
            if texts:
                rows = self.sql.run(f"SELECT id FROM texts WHERE text IN ({_marks(texts)})", texts)
                found[column] = [number for (number,) in rows]
        if query.cwd is not None:
            rows = self.sql.run(
                # One step per folder, not per thread.
                "WITH RECURSIVE one (number) AS (SELECT min(cwd) FROM threads INDEXED BY threads_of_cwd WHERE NOT stale"
                " UNION ALL SELECT (SELECT min(cwd) FROM threads INDEXED BY threads_of_cwd WHERE cwd > one.number"
                " AND NOT stale) FROM one WHERE one.number IS NOT NULL)"
                " SELECT texts.id, texts.text FROM one JOIN texts ON texts.id = one.number"
            )
            found["cwd"] = [number for number, text in rows if query.cwd(text)]
        return None if any(not numbers for numbers in found.values()) else found

    def _narrowest(self, query: RowQuery, filters: _Filters) -> _Narrow | None:
        """The filter that the fewest threads meet, if they are few."""
        ways: list[_Narrow] = []
        if query.only is not None:
            keys = tuple(key_of(thread_id) for thread_id in query.only)
            ways.append(
                _Narrow("t.thread IN (SELECT value FROM carray(?))", [cast("Any", apsw).carray(keys)], len(keys))
            )
        if query.parent is not None:
            ways.append(self._way("parent = ?", [key_of(query.parent)], "threads_parent", "parent IS NOT NULL"))
        if query.text and (way := self._titled(query.text)) is not None:
            ways.append(way)
        for column, numbers in filters.items():
            condition, values = f"{column} IN ({_marks(numbers)})", list(numbers)
            if query.archived is not None:
                condition += " AND archived = ?"
                values.append(query.archived)
            ways.append(self._way(condition, values, f"threads_of_{column}", "NOT stale"))
        ways = [way for way in ways if way.met <= FEW]
        return min(ways, key=lambda way: way.met, default=None)

    def _way(self, condition: str, values: Sequence[Any], index: str, within: str) -> _Narrow:
        select = f"SELECT id FROM threads INDEXED BY {index} WHERE {condition} AND {within}"
        counted = self.sql.one(f"SELECT count(*) FROM ({select} LIMIT {FEW + 1})", values)
        return _Narrow(f"t.id IN ({select})", values, counted)

    def _titled(self, text: str) -> _Narrow | None:
        if len(text) < GRAM:
            terms = terms_beginning(self.sql.connection, "titles", text, SHORT_TERMS)
            if terms is None:
                return None
            asked = " OR ".join(map(_quoted, terms))
        else:
            grams = {text[at : at + GRAM] for at in range(len(text) - GRAM + 1)}
            rarest = sorted(grams, key=lambda gram: (_commonness(gram), gram))[:GRAMS]
            asked = " AND ".join(map(_quoted, rarest))
        if not asked:
            return _Narrow("0", [], 0)
        rows = self.sql.run(f"SELECT rowid FROM titles WHERE titles MATCH ? LIMIT {FEW + 1}", (asked,))
        found = array("q", (number for (number,) in rows))
        if not found:
            return _Narrow("0", [], 0)
        return _Narrow("t.id IN (SELECT value FROM carray(?))", [cast("Any", apsw).carray(found)], len(found))


def _quoted(term: str) -> str:
    doubled = term.replace('"', '""')
    return f'"{doubled}"'


def _commonness(gram: str) -> int:
    """How likely it is that a text holds these characters; those that are in no common word count nothing."""
    return sum(_COMMON.get(character, 0) for character in gram)


_FOLDED = re.compile("|".join("ßİŉſǰẖẗẘẙẚẞ\u212aﬀﬁﬂﬃﬄﬅﬆ").encode()).search
"""Finds the only other characters that are plain letters when case does not count."""

_COMMON = {character: 27 - place for place, character in enumerate(" etaoinsrhldcumfpgwybvkxjqz")}


_Filters = dict[str, list[int]]


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _merged(one: Iterator[FoundRow], other: Iterator[FoundRow], *, ascending: bool) -> Iterator[FoundRow]:
    import heapq

    return heapq.merge(one, other, key=lambda row: (row.key, row.thread_id), reverse=not ascending)  # pyright: ignore[reportArgumentType] - the keys of one order are of one type
