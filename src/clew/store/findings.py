"""What a check of recorded threads can find: one table of codes, and the findings themselves."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import msgspec

from clew.rollout import Record, Skipped

__all__ = ["CODES", "Code", "Finding", "Findings", "Severity", "finding"]

Severity = Literal["error", "warning", "info"]
"""`error`: something is lost, or a program will refuse the thread. `warning`: it works, but not as it should. `info`:
normal, and good to know."""

SHOWN_PER_CODE = 100


class Code(NamedTuple):
    """What a code stands for. `repair` is the surgery that helps, None if there is none."""

    severity: Severity
    meaning: str
    repair: str | None = None


CODES: dict[str, Code] = {
    # lines
    "line-damaged": Code("error", "a line that is no record; the rest of the thread is read without it"),
    "line-not-utf8": Code("error", "a line with bytes that are no UTF-8; Codex refuses the whole file"),
    "line-too-long": Code("error", "a line longer than what is read (1 GiB), or than what is checked (a warning)"),
    "line-unreadable": Code("error", "the disk did not give the bytes of these lines"),
    "first-line-damaged": Code("error", "the first line is no record; Codex refuses the whole file"),
    "byte-order-mark": Code("error", "the file begins with a byte order mark; Codex refuses it"),
    "torn-tail": Code(
        "warning", "an unfinished last line, as a crash in the middle of a write leaves", "drop-torn-tail"
    ),
    "tail-without-newline": Code("info", "the last line is whole but has no newline; the next writer adds it"),
    "file-empty": Code("error", "nothing is in the file"),
    "file-unreadable": Code("error", "the file cannot be opened"),
    # metadata
    "no-metadata": Code("error", "no line says whose thread it is; Codex refuses the file"),
    "metadata-not-first": Code("error", "the metadata come after other lines; Codex refuses the file"),
    "id-differs": Code("error", "the id in the file is not the one in its name"),
    "foreign-metadata": Code(
        "error", "metadata of another thread behind the file's own; Codex forgets what is before", "split-foreign-tail"
    ),
    "history-mode-unknown": Code("error", "a history mode nobody here knows: refused, not guessed"),
    "bare-format": Code("info", "the format of 2025 before the envelope; clew reads it, Codex does not"),
    # ordinals
    "ordinal-missing": Code("error", "a line without ordinal in a paginated file", "renumber"),
    "ordinal-doubled": Code("error", "the ordinal of the line before once more", "renumber"),
    "ordinal-back": Code("error", "an ordinal below the one before", "renumber"),
    "ordinal-gap": Code("warning", "ordinals are left out", "renumber"),
    "ordinal-in-legacy": Code("warning", "ordinals in a file that should have none", "renumber"),
    "wrong-mode": Code("error", "the file calls itself paginated, but no line has an ordinal", "renumber"),
    # forks
    "base-missing": Code("error", "the file that a fork inherits from is not there", "reattach-base"),
    "base-incomplete": Code("error", "the metadata name a base, but not all that is needed to read it"),
    "base-past-end": Code("error", "a fork inherits more bytes than its base has", "reattach-base"),
    "base-off-line": Code("error", "what a fork inherits ends in the middle of a line", "reattach-base"),
    "base-disagrees": Code("error", "offset and ordinal of what a fork inherits do not fit together", "reattach-base"),
    "base-cycle": Code("error", "a fork inherits from itself"),
    # files
    "segment-without-first": Code("warning", "later segments of a thread whose first file is gone"),
    "temporary-file": Code("warning", "what a program left that was ended in its work; younger than 6 hours: a note"),
    "compressed-beside-plain": Code("warning", "a compressed file beside its plain form, which alone is read"),
    "frame-damaged": Code("error", "a compressed file that cannot be unpacked to its end"),
    "seek-table-wrong": Code("error", "the seek table of a compressed file does not fit its frames"),
    "duplicate-file": Code("warning", "the same thread or segment a second time; the file is not read"),
    "mode-too-wide": Code("warning", "files or folders that others may read (wider than 0600 and 0700)"),
    # locks and names
    "stale-lock": Code("warning", "a lock file that nobody holds", "drop-stale-locks"),
    "stale-owner": Code("warning", "a record of an owner that holds nothing", "drop-stale-locks"),
    "name-orphaned": Code("warning", "a name for a thread that is not there", "rebuild-names"),
    "name-row-damaged": Code("warning", "a row of names that cannot be read", "rebuild-names"),
    "saved-sessions-damaged": Code("error", "saved_sessions.json cannot be read"),
    "saved-session-lost": Code("warning", "an entry of saved_sessions.json for a thread that is not there"),
    "journal-row-damaged": Code("warning", "a line of a journal (marks, trash, moved folders) that cannot be read"),
    "journal-unreadable": Code("error", "a journal (marks, trash, moved folders) that cannot be read at all"),
    "repair-unfinished": Code("warning", "a repair was ended in its work; `clew repair undo` puts everything back"),
    # turns
    "turn-open": Code("info", "a turn without end: it runs, or its program was killed"),
    "turn-end-without-start": Code("warning", "the end of a turn that never began"),
    "call-open": Code("info", "a tool call without output; requests answer it `aborted`"),
    "output-without-call": Code("warning", "the output of a call that is not open; requests leave it out"),
}
"""Everything that can be found."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was found. `line` counts from 1, `offset` are bytes in the (unpacked) file; both belong to `path`.
    `count` is more than 1 where one finding stands for several of its kind."""

    code: str
    severity: Severity
    why: str
    thread_id: str | None = None
    path: str | None = None
    line: int | None = None
    offset: int | None = None
    count: int = 1
    repair: str | None = None


def finding(code: str, why: str, *, severity: Severity | None = None, **where: Any) -> Finding:
    """A finding with what the table says of its code."""
    known = CODES[code]
    return Finding(code=code, severity=severity or known.severity, why=why, repair=known.repair, **where)


class Findings:
    """The findings of one file, in the order of its lines. Of each code a hundred are kept, the rest is counted."""

    def __init__(self, path: str, thread_id: str | None) -> None:
        self._path = path
        self._thread_id = thread_id
        self._kept: list[Finding] = []
        self._counts: Counter[str] = Counter()

    def add(
        self,
        code: str,
        why: str,
        *,
        at: Record | Skipped | None = None,
        line: int | None = None,
        offset: int | None = None,
        severity: Severity | None = None,
    ) -> None:
        """`at` gives line and offset."""
        if at is not None:
            # Numbers are only known when reading forward.
            line, offset = at.number or None, at.start
        self._counts[code] += 1
        if self._counts[code] <= SHOWN_PER_CODE:
            where: dict[str, Any] = {"thread_id": self._thread_id, "path": self._path, "line": line, "offset": offset}
            self._kept.append(finding(code, why, severity=severity, **where))

    def __iter__(self) -> Iterator[Finding]:
        yield from sorted(self._kept, key=lambda found: found.line or 0)
        for code, count in self._counts.items():
            if (more := count - SHOWN_PER_CODE) > 0:
                yield finding(code, f"{more} more of this kind", thread_id=self._thread_id, path=self._path, count=more)
