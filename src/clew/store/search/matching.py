"""Where a text fits: exact text, words, or a regular expression; and the piece of a text that shows it.

Python's expressions can take for ever on some texts (`(a+)+$`), and nothing in the process can interrupt one. So an
expression that repeats anything is tried in a small process of its own, which is killed when it takes too long or when
the search is stopped. One without repeats takes time in proportion to the text, and is tried here.
"""

from __future__ import annotations

import contextlib
import marshal
import os
import re
import select
import struct
import subprocess
import sys
import threading
import time
import warnings
from bisect import bisect_right
from collections.abc import Callable
from importlib import import_module
from typing import Any

from clew.errors import BadRequest, SearchStopped
from clew.store.queries import SearchQuery, Stop
from clew.store.search.spelling import required_texts

__all__ = ["Matcher", "Spans", "compiled", "matcher_for", "snippet"]

Spans = list[tuple[int, int]]
"""Character ranges of a text."""

MOST_SPANS = 64
"""Ranges of one text that are told."""
TEXT_SECONDS = 2.0
"""How long an expression may take for one text."""
START_SECONDS = 30.0
"""How long the process that tries it may take to begin: the machine may be busy."""
ALL_SECONDS = 10.0
"""How long it may take, all in all, for texts that it is not done with."""

_BEFORE, _AFTER, _WIDEST = 48, 96, 400
_WORD = re.compile(r'"([^"]*)"?|(\S+)')
_WORDS = re.compile(r"\S+").finditer
_TOKEN = re.compile(r"[^\W_]+")

_CHILD = """
import marshal, re, struct, sys
take, give = sys.stdin.buffer, sys.stdout.buffer
pattern, flags, most = marshal.load(take)
find = re.compile(pattern, flags).finditer
give.write(b"R")
give.flush()
while True:
    try:
        text = marshal.load(take)
    except EOFError:
        break
    spans = []
    for match in find(text):
        spans.append(match.span())
        if len(spans) == most:
            break
    answer = marshal.dumps(spans)
    give.write(struct.pack(">I", len(answer)) + answer)
    give.flush()
"""


class Matcher:
    """Tells where in a text it fits."""

    def __init__(self, find: Callable[[str], Spans]) -> None:
        self._find = find

    @property
    def notices(self) -> tuple[str, ...]:
        """What a person should know of how it went."""
        return ()

    def spans(self, text: str) -> Spans | None:
        """The ranges that fit, in order, `MOST_SPANS` at most; None where the text does not fit."""
        return self._find(text) or None

    def close(self) -> None:
        """End what runs for it."""


def compiled(pattern: str, *, ignore_case: bool) -> re.Pattern[str]:
    """A regular expression in which `^` and `$` mean lines. Raises `BadRequest` with the place of a mistake."""
    flags = re.MULTILINE | (re.IGNORECASE if ignore_case else 0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what may once mean something else means what it means today
            return re.compile(pattern, flags)
    except re.error as error:
        place = "" if error.pos is None else f" at position {error.pos}"
        raise BadRequest("text", f"not a regular expression: {error.msg}{place}") from error
    except (OverflowError, RecursionError, ValueError) as error:
        raise BadRequest("text", f"not a regular expression: {error}") from error


def matcher_for(query: SearchQuery, stop: Stop) -> Matcher:
    """What a query looks for. Raises `BadRequest`. To be closed."""
    ignore_case = not query.case_sensitive
    if query.mode == "text":
        return Matcher(_finder(compiled(re.escape(query.text), ignore_case=ignore_case)))
    if query.mode == "words":
        return Matcher(_all_of(word_patterns(query.text)))
    pattern = compiled(query.text, ignore_case=ignore_case)
    if not sys.executable or not _repeats(pattern):
        return Matcher(_finder(pattern))
    return _Guarded(pattern, stop, _first_look(pattern))


def _first_look(pattern: re.Pattern[str]) -> re.Pattern[str] | None:
    """An expression without repeats that fits wherever this one does; None where there is none."""
    found = required_texts(pattern.pattern, pattern.flags)
    if found is None:
        return None
    return re.compile("|".join(map(re.escape, found[0])), re.IGNORECASE if found[1] else 0)


def _finder(pattern: re.Pattern[str], letters: str = "") -> Callable[[str], Spans]:
    """`letters`: plain ones that all that fits begins with, in any case."""
    lower = letters.lower() if letters.isascii() else ""

    def find(text: str) -> Spans:
        spans: Spans = []
        if lower and text.isascii():
            # Looking for letters is many times quicker than trying an expression at every place.
            plain = text.lower()
            at = plain.find(lower)
            while at >= 0:
                found = pattern.match(text, at)
                if found is not None:
                    spans.append(found.span())
                    if len(spans) == MOST_SPANS:
                        break
                at = plain.find(lower, at + 1 if found is None else found.end())
            return spans
        for match in pattern.finditer(text):
            spans.append(match.span())
            if len(spans) == MOST_SPANS:
                break
        return spans

    return find


def _all_of(patterns: list[tuple[re.Pattern[str], str]]) -> Callable[[str], Spans]:
    finders = [_finder(pattern, letters) for pattern, letters in patterns]

    def find(text: str) -> Spans:
        spans: Spans = []
        for one in finders:
            found = one(text)
            if not found:
                return []
            spans += found
        return sorted(spans)[:MOST_SPANS]

    return find


def words_of(text: str) -> list[tuple[tuple[str, ...], bool]]:
    """The words and phrases that are asked for, as tokens, and whether the last token is only a beginning. Raises
    `BadRequest` where there is none."""
    out: list[tuple[tuple[str, ...], bool]] = []
    for match in _WORD.finditer(text):
        phrase, word = match.groups()
        said = phrase if word is None else word
        tokens = tuple(_TOKEN.findall(said))
        if tokens:
            out.append((tokens, word is not None and said.endswith("*")))
    if not out:
        raise BadRequest("text", "no word to search for")
    return out


def word_patterns(text: str) -> list[tuple[re.Pattern[str], str]]:
    """An expression per word or phrase of a search for words, and the letters that what fits begins with."""
    out: list[tuple[re.Pattern[str], str]] = []
    for tokens, beginning in words_of(text):
        said = r"[\W_]+".join(map(re.escape, tokens))
        end = "" if beginning else r"(?![^\W_])"
        out.append((re.compile(rf"(?<![^\W_]){said}{end}", re.IGNORECASE), tokens[0]))
    return out


def _repeats(pattern: re.Pattern[str]) -> bool:
    """Whether an expression repeats anything: then its time may grow faster than the text."""
    try:
        parser: Any = import_module("re._parser")
    except ImportError:
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return "REPEAT" in repr(parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE).data)


class _Guarded(Matcher):
    """Asks a process that can be killed."""

    def __init__(self, pattern: re.Pattern[str], stop: Stop, first: re.Pattern[str] | None) -> None:
        self._pattern = pattern
        self._first = first
        self._stop = stop
        self._process: subprocess.Popen[bytes] | None = None
        self._given_up = 0
        self._lost = 0.0
        self._lock = threading.Lock()

    @property
    def notices(self) -> tuple[str, ...]:
        if not self._given_up:
            return ()
        return (f"The expression took too long for {self._given_up} texts; they were not searched.",)

    def spans(self, text: str) -> Spans | None:
        if self._first is not None and self._first.search(text) is None:
            return None
        with self._lock:
            return self._asked(text)

    def _asked(self, text: str) -> Spans | None:
        try:
            process = self._process or self._start()
            assert process.stdin is not None
            marshal.dump(text, process.stdin)
            process.stdin.flush()
            size = struct.unpack(">I", self._take(process, 4, TEXT_SECONDS))[0]
            found: Spans = marshal.loads(self._take(process, size, TEXT_SECONDS))  # noqa: S302 - our own process wrote it
        except (TimeoutError, BrokenPipeError):
            self.close()
            self._given_up += 1
            self._lost += TEXT_SECONDS
            if self._lost >= ALL_SECONDS:
                raise BadRequest(
                    "text", "this expression takes too long; write it without a repeat inside a repeat, like (a+)+"
                ) from None
            return None
        except BaseException:
            self.close()
            raise
        return found if found else None

    def _start(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _CHILD],
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdin is not None
        self._process = process
        marshal.dump((self._pattern.pattern, int(self._pattern.flags & ~re.UNICODE), MOST_SPANS), process.stdin)
        process.stdin.flush()
        self._take(process, 1, START_SECONDS)
        return process

    def _take(self, process: subprocess.Popen[bytes], size: int, seconds: float) -> bytes:
        """So many bytes of the answer. Raises `TimeoutError`, `SearchStopped`."""
        assert process.stdout is not None
        descriptor = process.stdout.fileno()
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN | select.POLLHUP)
        until = time.monotonic() + seconds
        parts: list[bytes] = []
        while size:
            if waiting.poll(50):
                data = os.read(descriptor, size)
                if not data:
                    raise TimeoutError  # it ended: too little memory, too deep
                parts.append(data)
                size -= len(data)
            elif self._stop():
                raise SearchStopped
            elif time.monotonic() > until:
                raise TimeoutError
        return b"".join(parts)

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    if pipe is not None:
                        pipe.close()
            process.wait()


def snippet(text: str, spans: Spans) -> tuple[str, tuple[tuple[int, int], ...]]:
    """The piece of a text around its first match on one line, and what of it matched."""
    first = spans[0] if spans else (0, 0)
    begin, end = max(0, first[0] - _BEFORE), min(len(text), min(first[1], first[0] + _WIDEST) + _AFTER)
    words = [match.span() for match in _WORDS(text, begin, end)]
    shown = " ".join([text[start:stop] for start, stop in words])
    starts = [start for start, _ in words]
    places: list[int] = []  # where each word went
    length = 0
    for start, stop in words:
        places.append(length)
        length += stop - start + 1

    def place(at: int) -> int:
        number = bisect_right(starts, at) - 1
        if number < 0:
            return 0
        start, stop = words[number]
        return min(places[number] + min(at - start, stop - start + 1), len(shown))

    marks: list[tuple[int, int]] = []
    for start, stop in spans:
        if start >= end:
            break
        low, high = place(start), place(min(stop, end))
        if low < high:
            marks.append((low, high))
    return shown, tuple(marks)
