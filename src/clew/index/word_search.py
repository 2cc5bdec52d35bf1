"""Threads and places in which words were said, best or newest first.

Never are all matches of a common word looked at: its threads come newest first, those with it in their names before
the others, and going back ends with the page. Where few documents fit, all of them are ranked.
"""

from __future__ import annotations

import base64
import heapq
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal, NamedTuple, cast

import apsw
import msgspec

from clew.errors import BadRequest
from clew.index.beginnings import words_beginning
from clew.index.sql import Row, row, rows
from clew.index.texts import ROLES, turn_text
from clew.index.words import TITLES, document_id

__all__ = ["WordHit", "WordPage", "WordQuery", "Words", "find_inside", "find_words"]

Words = Sequence[tuple[Sequence[str], bool]]
"""Words and phrases as their tokens (letters and digits only), and whether the last token is only a beginning."""

FEW = 200
"""How many documents are ranked; with more of them the newest come first."""
COMMON = 2000
"""Documents from which on a word is so common that its weight is not worked out."""

ALWAYS_APART, DENSE = 200, 100
"""Threads that may be looked into one by one, and of how many there must be one at most where they are more."""
MOST_OF_ONE = 200
"""Documents of such a thread that are counted."""

_WEIGHTS = "10.0, 2.0, 1.5, 1.0, 1.0"
_TOUCHED = "AND f.id IN (SELECT file FROM touched WHERE path >= :suffix AND path < :suffix || char(0x10FFFF))"


class WordQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for: all of `words` in one text.

    `roles`: only there (of `texts.ROLES`; empty: everywhere); `tool`: only in calls of this tool; `file`: only in
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


_Stage = Literal["title", "rest", "all", "copied"]
_BEHIND = 1 << 62
"""Behind the ids of all documents."""


class _Cursor(msgspec.Struct, array_like=True):
    """Which list the page continues, and the place of its last hit in it."""

    stage: Literal["ranked"] | _Stage
    id: int
    score: float = 0.0


class _Doc(msgspec.Struct, gc=False):
    id: int
    thread: str
    row: Row
    score: float = 0.0
    count: int = 1

    @property
    def place(self) -> tuple[int, bool]:
        return _place(self.id)


class _Part(NamedTuple):
    """Documents with an id above `low` and below `high` in which an expression of the full-text engine holds."""

    expression: str
    low: int
    high: int


class _Span(NamedTuple):
    """Between which ids the documents of a thread are."""

    thread: str
    oldest: int | None
    newest: int | None
    title: int | None

    def within(self, part: _Part) -> _Part | None:
        """As much of a part as the thread may have."""
        first, last = (self.title, self.title) if part.low >= TITLES - 1 else (self.oldest, self.newest)
        if first is None or last is None:
            return None
        inside = part._replace(low=max(part.low, first - 1), high=min(part.high, last + 1))
        return inside if inside.low + 1 < inside.high else None


Fits = Callable[[str], bool]


def find_words(
    connection: apsw.Connection, query: WordQuery, fits: Fits | None = None, among: Sequence[str] | None = None
) -> WordPage:
    """One hit per thread for which `fits` tells True (asked once per thread, and only for those that could be shown).
    `among`: the only threads for which it may, where they are known.

    What a thread inherited by copying is only a hit where nothing else is found. Raises `BadRequest` for a cursor that
    is none.
    """
    return _Search(connection, query, fits, among).page()


def find_inside(connection: apsw.Connection, query: WordQuery, thread: str) -> WordPage:
    """Every place inside one thread, its title first, then in the order of its files and lines. The query's `sort`
    means nothing here."""
    return _Search(connection, query, None).inside(thread)


class _Search:
    def __init__(
        self, connection: apsw.Connection, query: WordQuery, fits: Fits | None, among: Sequence[str] | None = None
    ) -> None:
        self._connection = connection
        self._among = among
        self._spans: Sequence[_Span] | None = None
        self._rare = False
        self._query = query
        self._fits = fits
        self._known: dict[str, bool] = {}
        self._named: frozenset[str] | None = (
            None  # all threads with the words in their names, where those were looked at
        )
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
        self._low = -1 if query.since is None else document_id(query.since) - 1
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
        # Every document of a word has its letters in one of few words, or the full-text engine is asked for all of
        # them at once.
        self._gathered = False
        self._words = [self._asked(*word) for word in query.words] if roles else []

    def _asked(self, tokens: Sequence[str], beginning: bool) -> str:
        if not beginning:
            return _phrase(tokens, False)
        found = words_beginning(self._connection, tokens[-1])
        if found is None:
            self._gathered = True
            return _phrase(tokens, True)
        return " OR ".join(_phrase((*tokens[:-1], token), False) for token in found)

    # -- pages

    def page(self) -> WordPage:
        cursor = _read(self._query.cursor)
        if not self._words or not all(self._words) or (self._among is not None and not self._among):
            return WordPage(hits=())
        if cursor is None:
            found = self._first()
            return found if found.hits else self._walk("copied", None)
        if cursor.stage == "ranked":
            return self._ranked(cursor)
        return self._walk(cursor.stage, cursor)

    def _first(self) -> WordPage:
        if self._query.sort == "recency" or self._gathered:
            return self._walk("all", None)
        self._rare = self._few()
        if self._rare:
            return self._ranked(None)
        return self._walk("title" if "title" in self._roles else "rest", None)

    def _few(self) -> bool:
        if not self._at_most(_both(self._words), FEW):
            return False
        return len(self._words) == 1 or all(self._at_most(word, COMMON) for word in self._words)

    def _at_most(self, words: str, most: int) -> bool:
        statement = "SELECT count(*) FROM (SELECT 1 FROM words WHERE words MATCH ? LIMIT ?)"
        found = row(self._connection, statement, (_within(self._roles, words), most + 1))
        return found is not None and found[0] <= most

    def _ranked(self, cursor: _Cursor | None) -> WordPage:
        best: dict[str, _Doc] = {}
        # A beginning counts as one word here, however many words begin so.
        words = _both([_phrase(*word) for word in self._query.words])
        part = _Part(_within(self._roles, words), self._low, _BEHIND)
        for found, score in self._documents(part, "AND NOT d.copied", ranked=True):
            found.score = round(score, 6)
            known = best.get(found.thread)
            if known is None:
                best[found.thread] = found
            else:
                found.count = known.count = known.count + 1
                if (found.score, -found.id) < (known.score, -known.id):
                    best[found.thread] = found
        ordered = sorted(best.values(), key=lambda doc: (doc.score, -doc.id))
        shown: list[_Doc] = []
        for doc in ordered:
            if cursor is not None and (doc.score, -doc.id) <= (cursor.score, -cursor.id):
                continue
            if self._is_wanted(doc.thread):
                if len(shown) == self._query.limit:
                    return self._page(shown, _Cursor("ranked", shown[-1].id, shown[-1].score))
                shown.append(doc)
        return self._page(shown, None)

    def _walk(self, stage: _Stage, cursor: _Cursor | None) -> WordPage:
        """Back over the documents that fit, newest first, until there are enough threads."""
        limit = self._query.limit
        found: dict[str, _Doc] = {}
        passed: set[str] = set()
        copied = "AND d.copied" if stage == "copied" else "AND NOT d.copied"
        for doc in self._back(stage, copied, cursor):
            known = found.get(doc.thread)
            if known is not None:
                known.count += 1
            elif doc.thread not in passed:
                if not self._is_wanted(doc.thread) or self._was_shown(doc, stage, copied, cursor):
                    passed.add(doc.thread)
                elif len(found) == limit:
                    shown = list(found.values())
                    return self._page(shown, _Cursor(stage, shown[-1].id) if shown else None)
                else:
                    found[doc.thread] = doc
        shown = list(found.values())
        if stage == "title" and len(shown) < limit:
            less = msgspec.structs.replace(self._query, limit=limit - len(shown))
            rest = _Search(self._connection, less, self._fits, self._among)
            rest._known, rest._spans = self._known, self._spans
            if cursor is None:
                rest._named = frozenset(found)
            page = rest._walk("rest", None)
            return WordPage(hits=(*self._page(shown, None).hits, *page.hits), next_cursor=page.next_cursor)
        if stage == "title":
            return self._page(shown, _Cursor("rest", TITLES - 1))
        return self._page(shown, None)

    def _back(self, stage: _Stage, copied: str, cursor: _Cursor | None) -> Iterator[_Doc]:
        """The documents of a stage, newest first, behind the cursor."""
        stretch = self._parts(stage, _place(_BEHIND) if cursor is None else _place(cursor.id))
        if self._are_apart():
            return self._back_among(stretch, copied)
        parts = [(doc for doc, _ in self._documents(part, copied, ranked=False)) for part in stretch]
        return iter(parts[0]) if len(parts) == 1 else heapq.merge(*parts, key=lambda doc: doc.place, reverse=True)

    def _are_apart(self) -> bool:
        """Whether looking into each of the threads that may fit costs less than looking for them among all others."""
        if self._among is None or self._rare:
            return False
        newest = row(self._connection, "SELECT max(id) FROM files")
        files = 0 if newest is None or newest[0] is None else newest[0]
        if len(self._among) > max(ALWAYS_APART, files // DENSE):
            return False
        if self._spans is None:
            statement = (
                "SELECT thread, min(oldest), max(newest), max(title) FROM files"
                " WHERE thread IN (SELECT value FROM carray(?)) GROUP BY thread"
            )
            keys = cast("Any", apsw).carray(tuple(self._among))
            self._spans = [_Span(*span) for span in rows(self._connection, statement, (keys,))]
        # What else was said while a thread went on is looked at, too.
        statement = f"SELECT (SELECT max(id) FROM docs WHERE id < {TITLES}) - (SELECT min(id) FROM docs)"
        whole = row(self._connection, statement)
        length = sum((span.newest or 0) - (span.oldest or 0) for span in self._spans)
        return whole is not None and length <= int(whole[0] or 0)

    def _back_among(self, stretch: Sequence[_Part], copied: str) -> Iterator[_Doc]:
        """The same documents, of threads that are apart: each is looked into when its newest may be the next."""
        ahead: list[tuple[tuple[int, bool], str, list[_Part]]] = []
        for span in self._spans or ():
            own = [inside for part in stretch if (inside := span.within(part)) is not None]
            if own:
                ahead.append((max(_place(part.high - 1) for part in own), span.thread, own))
        ahead.sort(key=lambda one: one[0], reverse=True)
        waiting: list[tuple[int, int, _Doc]] = []
        for newest, thread, own in ahead:
            while waiting and (-waiting[0][0], -waiting[0][1]) > newest:
                yield heapq.heappop(waiting)[2]
            for part in own:
                of_thread = f"{copied} AND f.thread = :thread"
                for doc, _ in islice(self._documents(part, of_thread, ranked=False, thread=thread), MOST_OF_ONE):
                    heapq.heappush(waiting, (-doc.place[0], -doc.place[1], doc))
        while waiting:
            yield heapq.heappop(waiting)[2]

    def _parts(self, stage: _Stage, before: tuple[int, bool]) -> list[_Part]:
        """Where the documents of a stage are that come after a place: titles and all others."""
        words = _both(self._words)
        parts: list[_Part] = []
        if "title" in self._roles and stage != "rest":
            parts.append(_Part(words, TITLES - 1, TITLES + before[0]))
        others = self._roles - {"title"}
        if others and stage != "title":
            high = min(before[0] + before[1], TITLES)
            expression = words if len(others) == len(ROLES) - 1 else _within(others, words)
            parts.append(_Part(expression, self._low, high))
        return parts

    def _was_shown(self, doc: _Doc, stage: _Stage, copied: str, cursor: _Cursor | None) -> bool:
        """Whether the thread of a document was a hit before: on an earlier page, or by its name."""
        if cursor is None and (self._named is not None or stage != "rest"):
            return self._named is not None and doc.thread in self._named
        bounds = row(self._connection, "SELECT max(newest), max(title) FROM files WHERE thread = ?", (doc.thread,))
        newest, title = (-1, -1) if bounds is None else (place if place is not None else -1 for place in bounds)
        if stage == "rest" and title >= 0 and "title" in self._roles:
            named = _Part(_both(self._words), title - 1, title + 1)
            if self._holds(named, copied, doc.thread):
                return True
        if cursor is None:
            return False
        place = _place(cursor.id)
        for part in self._parts(stage, _place(_BEHIND)):
            # From the cursor's place on, itself among them.
            if part.low >= TITLES - 1:
                part = part._replace(low=TITLES + place[0] - 1, high=title + 1)
            else:
                part = part._replace(low=max(part.low, place[0] - (0 if place[1] else 1)), high=newest + 1)
            if part.low + 1 < part.high and self._holds(part, copied, doc.thread):
                return True
        return False

    def _holds(self, part: _Part, copied: str, thread: str) -> bool:
        statement = self._statement("0", copied) + " AND f.thread = :thread ORDER BY w.rowid DESC LIMIT 1"
        bindings = {**self._bindings, **part._asdict(), "thread": thread}
        return row(self._connection, statement, bindings) is not None

    def _is_wanted(self, thread: str) -> bool:
        known = self._known.get(thread)
        if known is None:
            known = self._known[thread] = self._fits is None or self._fits(thread)
        return known

    # -- one thread

    def inside(self, thread: str) -> WordPage:
        cursor = _read(self._query.cursor)
        if not self._words or not all(self._words):
            return WordPage(hits=())
        bounds = row(
            self._connection,
            "SELECT min(oldest), max(newest), min(title), max(title) FROM files WHERE thread = ?",
            (thread,),
        )
        if bounds is None:
            return WordPage(hits=())
        words = _both(self._words)
        parts = [_Part(_within(self._roles, words), bounds[0] - 1, bounds[1] + 1)] if bounds[0] is not None else []
        if bounds[2] is not None and "title" in self._roles:
            parts.append(_Part(words, bounds[2] - 1, bounds[3] + 1))
        found = [
            (((place := doc.row)[4] != 0, place[3], place[5], doc.id), doc)
            for part in parts
            for doc, _ in self._documents(part, "AND f.thread = :thread", ranked=False, thread=thread)
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

    def _statement(self, first: str, more: str) -> str:
        return (
            f"SELECT {first}, d.id, f.thread, f.path, d.role, d.offset, d.at, d.turn, d.tool, d.copied"
            " FROM words w CROSS JOIN docs d ON d.id = w.rowid CROSS JOIN files f ON f.id = d.file"
            f" WHERE words MATCH :expression AND w.rowid > :low AND w.rowid < :high {more} {self._conditions}"
        )

    def _documents(self, part: _Part, more: str, *, ranked: bool, **values: str) -> Iterator[tuple[_Doc, float]]:
        """Documents with their scores, the newest first where they are not `ranked`."""
        if ranked:
            statement = self._statement(f"bm25(words, {_WEIGHTS})", more)
        else:
            statement = self._statement("0", more) + " ORDER BY w.rowid DESC"
        for score, *document in rows(self._connection, statement, {**self._bindings, **part._asdict(), **values}):
            yield _Doc(document[0], document[1], (score, *document)), score

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


def _place(document: int) -> tuple[int, bool]:
    """Where a document is among all others by time; titles have ids of their own."""
    return (document - TITLES, True) if document >= TITLES else (document, False)


def _both(words: Sequence[str]) -> str:
    """All of these words."""
    return words[0] if len(words) == 1 else " AND ".join(f"({word})" for word in words)


def _within(roles: set[str], words: str) -> str:
    return words if len(roles) == len(ROLES) else "{" + " ".join(sorted(roles)) + "} : (" + words + ")"


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
        found = msgspec.json.decode(base64.urlsafe_b64decode(cursor), type=_Cursor)
        if 0 <= found.id < _BEHIND:
            return found
    except (ValueError, msgspec.DecodeError) as error:
        raise BadRequest("cursor", "this is no cursor of an earlier page") from error
    raise BadRequest("cursor", "this is no cursor of an earlier page")
