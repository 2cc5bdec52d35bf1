"""One search: what it looks for, which texts of a thread fit, and what a person should know of how it went."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Generator, Iterator, Sequence
from datetime import datetime

import msgspec

from clew.errors import BadRequest, SearchStopped
from clew.rollout import Home, Link, ThreadFiles, lineage, open_source
from clew.store.queries import ROLES, Role, SearchQuery, ShowProgress, Stop
from clew.store.search.findings import Finding, Match
from clew.store.search.matching import Matcher, Spans, compiled, matcher_for, snippet, words_of
from clew.store.search.ripgrep import Ripgrep
from clew.store.search.sieve import Piece, Sieve, Sieved
from clew.store.search.spelling import needles, required_texts
from clew.store.search.texts import FileText, file_texts, interesting

__all__ = ["Run", "match_of", "moment_of"]

_PRINTS = 1000
"""Fingerprints of texts that are kept of one thread."""
_FAILED = "ripgrep (rg) failed: files were read without it, which takes longer."


class Run:
    """One search: what it looks for, and what it met."""

    def __init__(
        self,
        home: Home,
        ripgrep: Ripgrep | None,
        query: SearchQuery,
        stop: Stop | None,
        progress: ShowProgress | None,
    ) -> None:
        if not (query.text if query.mode == "regex" else query.text.strip()):
            raise BadRequest("text", "nothing to search for")
        if query.limit < 1:
            raise BadRequest("limit", "give a number from 1 up")
        self.home = home
        self.query = query
        self.ended = False
        self._stop = stop
        self.progress = progress
        self.roles = _roles(query)
        self.since, self.until = moment_of(query.since), moment_of(query.until)
        self.matcher: Matcher = matcher_for(query, self.stop)
        self.sieve = Sieve(home, ripgrep, _needles(query), self.stop)
        self.unreadable: set[str] = set()

    def stop(self) -> bool:
        """Whether to end: because somebody wants it, or nobody needs more."""
        return self.ended or (self._stop is not None and self._stop())

    @contextlib.contextmanager
    def ending(self) -> Generator[None]:
        """Behind it nothing more is needed, so that what still runs ends soon."""
        try:
            yield
        finally:
            self.ended = True

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.ended = True
        self.sieve.close()
        self.matcher.close()

    @property
    def identity(self) -> str:
        """Words for everything that decides what fits in a thread."""
        query = self.query
        told = (
            query.mode,
            query.text,
            self.roles,
            query.tool,
            query.file,
            self.since,
            self.until,
            query.case_sensitive,
        )
        return msgspec.json.encode(told).decode()

    def told(self) -> Iterator[str]:
        yield from self.matcher.notices
        if self.sieve.failed:
            yield _FAILED
        if self.unreadable:
            files = "1 file" if len(self.unreadable) == 1 else f"{len(self.unreadable)} files"
            yield f"{files} could not be read: `clew check` tells which."

    def check(self) -> None:
        if self.stop():
            raise SearchStopped

    @property
    def in_files(self) -> bool:
        """Whether anything but titles is asked for."""
        return any(role != "title" for role in self.roles)

    def pieces(self, files: ThreadFiles) -> list[Piece]:
        """The thread's own files, each as far as it belongs to the thread today."""
        if len(files.segments) == 1:
            return [Piece(files.thread_id, Link(files.current))]
        try:
            links = lineage(self.home, files.current).links
        except OSError:
            return [Piece(files.thread_id, Link(files.current))]
        return [Piece(files.thread_id, link) for link in reversed(links) if link.file.thread_id == files.thread_id]

    def links(self, files: ThreadFiles) -> list[Link]:
        """All files a thread is made of, oldest first, inherited ones among them."""
        try:
            return list(reversed(lineage(self.home, files.current).links))
        except OSError:
            return [Link(files.current)]

    def texts(self, sieved: Sieved, *, whole: bool = False) -> Iterator[FileText]:
        """The texts of a piece. `whole`: also when no line of it is worth it."""
        piece, lines = sieved.piece, sieved.lines
        source = sieved.source or open_source(self.home.fs, piece.link.file)
        try:
            outputs = "output" in self.roles
            if lines is not None:
                lines = [line for line in lines if interesting(source, line, outputs=outputs)]
                if not lines and not whole:
                    return
            answers = lines if outputs else ()
            yield from file_texts(
                source,
                piece.link.file.thread_id,
                end=piece.link.end,
                answers=answers,
                tools=outputs and self.query.tool is not None,
                stop=self.stop,
            )
        finally:
            if sieved.source is None:
                source.close()

    def touches(self, sieved: Sieved) -> bool:
        """Whether a file was touched whose path ends as asked for."""
        try:
            return any(text.role == "file" and _ends_so(text.text, self.query.file) for text in self.texts(sieved))
        except OSError:
            self.unreadable.add(sieved.piece.key)
            return False

    def fits(self, text: FileText) -> Spans | None:
        """Where a text fits, None where it does not or is not asked for."""
        if text.role not in self.roles:
            return None
        if self.query.tool is not None and text.tool != self.query.tool:
            return None
        if self.since is not None and (text.at is None or text.at < self.since):
            return None
        if self.until is not None and (text.at is None or text.at > self.until):
            return None
        return self.matcher.spans(text.text)

    def finding(self, pieces: Sequence[Sieved]) -> Finding | None:
        """What fits in the pieces of one thread."""
        own, copied = _Tally(), _Tally()
        prints: dict[int, None] = {}
        touched = self.query.file is None
        for sieved in pieces:
            if sieved.error is not None:
                self.unreadable.add(sieved.piece.key)
            try:
                for text in self.texts(sieved, whole=self.query.file is not None):
                    touched = touched or (text.role == "file" and _ends_so(text.text, self.query.file))
                    spans = self.fits(text)
                    if spans is not None:
                        if len(prints) < _PRINTS:
                            prints[_print_of(text.text)] = None
                        (copied if text.copied else own).take(text, spans)
            except OSError:
                self.unreadable.add(sieved.piece.key)
        if not touched or not (own.count or copied.count):
            return None
        return Finding(own.count, own.shown, copied.count, copied.shown, tuple(prints))


class _Tally:
    """How many texts fit, and the one that is shown: the first of the best role."""

    def __init__(self) -> None:
        self.count = 0
        self.shown: Match | None = None
        self._rank = len(ROLES)

    def take(self, text: FileText, spans: Spans) -> None:
        self.count += 1
        rank = ROLES.index(text.role)
        if rank < self._rank:
            self._rank = rank
            self.shown = match_of(text, spans)


def match_of(text: FileText, spans: Spans) -> Match:
    shown, marks = snippet(text.text, spans)
    return Match(text.role, shown, marks, text.at, text.turn_id)


def _roles(query: SearchQuery) -> tuple[Role, ...]:
    """The roles that are searched, in their order."""
    if query.roles:
        return tuple(role for role in ROLES if role in query.roles)
    return tuple(role for role in ROLES if role != "output") if query.mode == "words" else ROLES


def _needles(query: SearchQuery) -> list[str] | None:
    """Expressions for the lines that are worth reading; None where all are."""
    match query.mode:
        case "text":
            return needles([query.text], ignore_case=not query.case_sensitive)
        case "words":
            # All of them stand in one text, so that one is enough: the longest.
            longest = max((token for tokens, _ in words_of(query.text) for token in tokens), key=len)
            return needles([longest], ignore_case=True)
        case "regex":
            flags = compiled(query.text, ignore_case=not query.case_sensitive).flags
            found = required_texts(query.text, flags)
            return None if found is None else needles(found[0], ignore_case=found[1])


def moment_of(stamp: str | None) -> int | None:
    """An RFC 3339 time in milliseconds since 1970. Raises `BadRequest`."""
    if stamp is None:
        return None
    try:
        return round(datetime.fromisoformat(stamp).astimezone().timestamp() * 1000)
    except (ValueError, OverflowError) as error:
        raise BadRequest("since/until", f"{stamp!r} is no RFC 3339 time") from error


def _ends_so(path: str, wanted: str | None) -> bool:
    """Whether a path ends in the wanted one, by whole names."""
    return wanted is not None and (path == wanted or path.endswith("/" + wanted.lstrip("/")))


def _print_of(text: str) -> int:
    data = text.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(data, digest_size=6).digest(), "big")
