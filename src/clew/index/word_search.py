"""Threads and places in which words were said, best or newest first.

Never are all matches of a common word looked at: its threads come newest first, those with it in their titles before
the others, and going back ends with the page. Where few documents fit, all of them are ranked.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import apsw
import msgspec

from clew.errors import BadRequest
from clew.index.sql import Row, row, rows
from clew.index.words import ROLES, document_id, turn_text

__all__ = ["WordHit", "WordPage", "WordQuery", "Words", "find_inside", "find_words"]

Words = Sequence[tuple[Sequence[str], bool]]
"""Words and phrases as their tokens (letters and digits only), and whether the last token is only a beginning."""

FEW = 200
"""How many documents are ranked; with more of them the newest come first."""
COMMON = 2000
"""Documents from which on a word is so common that its weight is not worked out."""

SHORT = 3
"""Letters of a beginning from which on the full-text table knows its documents; those of a shorter one are gathered
from many lists, which is done once at most."""

_WEIGHTS = "10.0, 2.0, 1.5, 1.0, 1.0"
_TOUCHED = "AND f.id IN (SELECT file FROM touched WHERE path >= :suffix AND path < :suffix || char(0x10FFFF))"


class WordQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for: all of `words` in one text.

    `roles`: only there (of `words.ROLES`; empty: everywhere); `tool`: only in calls of this tool; `file`: only in
    threads that touched a file whose path ends so; `since` and `until`: milliseconds since 1970, inclusive.
    """

    words: Words
    roles: tuple[str, ...] = ()
    tool: str | None = None
    file: str | None = None
    since: int | None = None
    until: int | None = None
    sort: Literal["rank", "recency"] = "rank"
    limit: int = 25
    cursor: str | None = None


class WordHit(msgspec.Struct, frozen=True, kw_only=True):
    """A document that fits: its thread, the file (`path` within the home, without `.zst`) and the offset of the line in
    it (0 for a title), `at` in milliseconds since 1970. `count`: how many documents of the thread fit, as far as they
    were counted."""

    thread: str
    path: str
    role: str
    offset: int
    at: int | None
    turn_id: str | None
    tool: str | None
    copied: bool
    count: int = 1


class WordPage(msgspec.Struct, frozen=True, kw_only=True):
    """Hits, and where the next page begins; None: there is none."""

    hits: tuple[WordHit, ...]
    next_cursor: str | None = None


class _Cursor(msgspec.Struct, array_like=True):
    """Which list the page continues, and the place of its last hit in it."""

    stage: Literal["ranked", "title", "rest", "all", "copied"]
    id: int
    score: float = 0.0


class _Doc(msgspec.Struct, gc=False):
    id: int
    thread: str
    row: Row
    score: float = 0.0
    count: int = 1


Fits = Callable[[str], bool]


def find_words(connection: apsw.Connection, query: WordQuery, fits: Fits | None = None) -> WordPage:
    """One hit per thread for which `fits` tells True (asked once per thread that is met).

    What a thread inherited by copying is only a hit where nothing else is found. Raises `BadRequest` for a cursor that
    is none.
    """
    return _Search(connection, query, fits).page()


def find_inside(connection: apsw.Connection, query: WordQuery, thread: str) -> WordPage:
    """Every place inside one thread, its title first, then in the order of its files and lines. The query's `sort`
    means nothing here."""
    return _Search(connection, query, None).inside(thread)


class _Search:
    def __init__(self, connection: apsw.Connection, query: WordQuery, fits: Fits | None) -> None:
        self._connection = connection
        self._query = query
        self._fits = fits
        self._known: dict[str, bool] = {}
        roles = set(query.roles or ROLES)
        if query.tool is not None:
            roles &= {"command", "file"}
        if query.since is not None or query.until is not None:
            # A title has no time.
            roles.discard("title")
        self._roles = roles
        self._bindings: dict[str, Any] = {
            "tool": query.tool,
            "since": query.since,
            "until": query.until,
            "suffix": (query.file or "")[::-1],
        }
        low = -1 if query.since is None else document_id(query.since) - 1
        self._low = max(-1, low)
        conditions: list[str] = []
        if query.tool is not None:
            conditions.append("AND d.tool = (SELECT id FROM tools WHERE name = :tool)")
        if query.since is not None:
            conditions.append("AND d.at >= :since")
        if query.until is not None:
            conditions.append("AND d.at <= :until")
        if query.file:
            conditions.append(_TOUCHED)
        self._conditions = " ".join(conditions)

    # -- pages

    def page(self) -> WordPage:
        if not self._roles or not self._query.words:
            return WordPage(hits=())
        cursor = _read(self._query.cursor)
        if cursor is None:
            found = self._first()
            return found if found.hits else self._walk("copied", None)
        if cursor.stage == "ranked":
            return self._ranked(cursor)
        return self._walk(cursor.stage, cursor)

    def _first(self) -> WordPage:
        words = self._query.words
        if self._query.sort == "recency" or any(beginning and len(tokens[-1]) < SHORT for tokens, beginning in words):
            return self._walk("all", None)
        if self._few():
            return self._ranked(None)
        return self._walk("title" if "title" in self._roles else "rest", None)

    def _few(self) -> bool:
        everything = self._expression(self._roles)
        if not self._at_most(everything, FEW):
            return False
        words = self._query.words
        return len(words) == 1 or all(self._at_most(_phrase(*word), COMMON) for word in words)

    def _at_most(self, expression: str, most: int) -> bool:
        statement = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
        found = row(self._connection, statement, (expression, most + 1))
        return found is not None and found[0] <= most

    def _ranked(self, cursor: _Cursor | None) -> WordPage:
        best: dict[str, _Doc] = {}
        statement = self._statement(f"bm25(words, {_WEIGHTS})", "AND NOT d.copied")
        for score, found in self._documents(statement, self._expression(self._roles), None):
            found.score = round(score, 6)
            known = best.get(found.thread)
            if known is None:
                best[found.thread] = found
            else:
                found.count = known.count = known.count + 1
                if (found.score, -found.id) < (known.score, -known.id):
                    best[found.thread] = found
        ordered = sorted(best.values(), key=lambda doc: (doc.score, -doc.id))
        if cursor is not None:
            ordered = [doc for doc in ordered if (doc.score, -doc.id) > (cursor.score, -cursor.id)]
        shown, more = ordered[: self._query.limit], len(ordered) > self._query.limit
        after = _Cursor("ranked", shown[-1].id, shown[-1].score) if more and shown else None
        return self._page(shown, after)

    def _walk(self, stage: Literal["title", "rest", "all", "copied"], cursor: _Cursor | None) -> WordPage:
        """Back over the documents that fit, newest first, until there are enough threads."""
        limit = self._query.limit
        title = {"title"} & self._roles
        roles = title if stage == "title" else self._roles - title if stage == "rest" else self._roles
        found: dict[str, _Doc] = {}
        passed: set[str] = set()
        copied = "AND d.copied" if stage == "copied" else "AND NOT d.copied"
        if roles:
            expression = self._expression(roles)
            statement = self._statement("0", copied, before=cursor is not None) + " ORDER BY w.rowid DESC"
            for _, doc in self._documents(statement, expression, cursor):
                known = found.get(doc.thread)
                if known is not None:
                    known.count += 1
                elif doc.thread not in passed:
                    if self._is_shown_before(doc, expression, copied, cursor) or (
                        stage == "rest" and title and self._has_title(doc.thread)
                    ):
                        passed.add(doc.thread)
                    elif len(found) == limit:
                        shown = list(found.values())
                        return self._page(shown, _Cursor(stage, shown[-1].id) if shown else None)
                    else:
                        found[doc.thread] = doc
        shown = list(found.values())
        if stage == "title" and len(shown) < limit:
            rest = _Search(self._connection, msgspec.structs.replace(self._query, limit=limit - len(shown)), self._fits)
            rest._known = self._known
            page = rest._walk("rest", None)
            return WordPage(hits=(*self._page(shown, None).hits, *page.hits), next_cursor=page.next_cursor)
        if stage == "title":
            return self._page(shown, _Cursor("rest", 1 << 62))
        return self._page(shown, None)

    def _is_shown_before(self, doc: _Doc, expression: str, copied: str, cursor: _Cursor | None) -> bool:
        """Whether the thread of a document was a hit of an earlier page."""
        if cursor is None:
            return False
        bounds = row(
            self._connection,
            "SELECT max(max(ifnull(newest, 0), ifnull(title, 0))) FROM files WHERE thread = ?",
            (doc.thread,),
        )
        if bounds is None or bounds[0] is None or bounds[0] < cursor.id:
            return False
        statement = (
            self._statement("0", copied)
            + " AND w.rowid >= :after AND w.rowid <= :newest AND f.thread = :thread ORDER BY w.rowid LIMIT 1"
        )
        bindings = {
            **self._bindings,
            "match": expression,
            "low": self._low,
            "after": cursor.id,
            "newest": bounds[0],
            "thread": doc.thread,
        }
        return row(self._connection, statement, bindings) is not None

    def _has_title(self, thread: str) -> bool:
        """Whether the words stand in the title of a thread: then it was told before."""
        expression = self._expression({"title"})
        statement = "SELECT 1 FROM words WHERE words MATCH ? AND rowid = ?"
        return any(
            row(self._connection, statement, (expression, title)) is not None
            for (title,) in rows(
                self._connection, "SELECT title FROM files WHERE thread = ? AND title IS NOT NULL", (thread,)
            )
        )

    # -- one thread

    def inside(self, thread: str) -> WordPage:
        if not self._roles or not self._query.words:
            return WordPage(hits=())
        cursor = _read(self._query.cursor)
        bounds = row(
            self._connection,
            "SELECT min(min(ifnull(oldest, title), ifnull(title, oldest))),"
            " max(max(ifnull(newest, title), ifnull(title, newest))) FROM files WHERE thread = ?",
            (thread,),
        )
        if bounds is None or bounds[0] is None:
            return WordPage(hits=())
        statement = (
            self._statement("f.path", "") + " AND w.rowid >= :oldest AND w.rowid <= :newest AND f.thread = :thread"
        )
        bindings = {"oldest": bounds[0], "newest": bounds[1], "thread": thread}
        found = [
            (((place := doc.row)[4] != 0, path, place[5], doc.id), doc)
            for path, doc in self._documents(statement, self._expression(self._roles), None, bindings)
        ]
        found.sort(key=lambda entry: entry[0])
        if cursor is not None:
            place = next((n for n, (_, doc) in enumerate(found) if doc.id == cursor.id), None)
            if place is None:
                raise BadRequest("cursor", "this is no cursor of an earlier page")
            found = found[place + 1 :]
        shown = [doc for _, doc in found[: self._query.limit]]
        more = len(found) > len(shown)
        return self._page(shown, _Cursor("all", shown[-1].id) if more and shown else None)

    # -- what is asked

    def _expression(self, roles: set[str]) -> str:
        words = " AND ".join(_phrase(*word) for word in self._query.words)
        return words if len(roles) == len(ROLES) else "{" + " ".join(sorted(roles)) + "} : (" + words + ")"

    def _statement(self, first: str, copied: str, *, before: bool = False) -> str:
        return (
            f"SELECT {first}, d.id, f.thread, f.path, d.role, d.offset, d.at, d.turn, d.tool, d.copied"
            " FROM words w CROSS JOIN docs d ON d.id = w.rowid CROSS JOIN files f ON f.id = d.file"
            f" WHERE words MATCH :match AND w.rowid > :low {'AND w.rowid < :before' if before else ''}"
            f" {copied} {self._conditions}"
        )

    def _documents(
        self, statement: str, expression: str, cursor: _Cursor | None, more: dict[str, Any] | None = None
    ) -> Iterator[tuple[Any, _Doc]]:
        bindings = {**self._bindings, **(more or {}), "match": expression, "low": self._low}
        if cursor is not None:
            bindings["before"] = cursor.id
        for first, *document in rows(self._connection, statement, bindings):
            thread = document[1]
            if self._fits is not None:
                known = self._known.get(thread)
                if known is None:
                    known = self._known[thread] = self._fits(thread)
                if not known:
                    continue
            yield first, _Doc(document[0], thread, (first, *document))

    def _page(self, shown: Sequence[_Doc], after: _Cursor | None) -> WordPage:
        return WordPage(hits=tuple(map(self._hit, shown)), next_cursor=None if after is None else _write(after))

    def _hit(self, doc: _Doc) -> WordHit:
        _, _, thread, path, column, offset, at, turn, tool, copied = doc.row
        role = ROLES[int(column)]
        name = None if tool is None else row(self._connection, "SELECT name FROM tools WHERE id = ?", (tool,))
        return WordHit(
            thread=thread,
            path=path,
            role=role,
            offset=offset,
            at=None if role == "title" else at,
            turn_id=turn_text(turn),
            tool=None if name is None else str(name[0]),
            copied=bool(copied),
            count=doc.count,
        )


def _phrase(tokens: Sequence[str], beginning: bool) -> str:
    """A phrase as the full-text engine reads it; what is between the quotes is nothing but text to it."""
    said = " ".join(tokens).replace('"', '""').replace("\0", " ")
    return f'"{said}" *' if beginning else f'"{said}"'


def _write(cursor: _Cursor) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(cursor)).decode()


def _read(cursor: str | None) -> _Cursor | None:
    if cursor is None:
        return None
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=_Cursor)
    except (ValueError, msgspec.DecodeError) as error:
        raise BadRequest("cursor", "this is no cursor of an earlier page") from error
