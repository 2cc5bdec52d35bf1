"""Patches: reading their text, and working out what they would change. Nothing here writes.

The format, line by line: `*** Begin Patch`, operations, `*** End Patch`. An operation adds a file (`*** Add File: P`
and lines behind `+`), deletes one (`*** Delete File: P`) or updates one (`*** Update File: P`, perhaps `*** Move to:
Q`, then chunks). A chunk starts with `@@` or `@@ TEXT` and has lines behind a blank (kept), `-` (removed) and `+`
(added); `*** End of File` behind it ties it to the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from pathlib import Path

from clew.errors import PatchInvalid

__all__ = [
    "AddFile",
    "Change",
    "Chunk",
    "DeleteFile",
    "HunkInvalid",
    "Operation",
    "Patch",
    "UpdateFile",
    "parse_patch",
    "plan",
    "unified_diff",
]

_BEGIN, _END, _EOF = "*** Begin Patch", "*** End Patch", "*** End of File"
_ADD, _DELETE, _UPDATE, _MOVE = "*** Add File: ", "*** Delete File: ", "*** Update File: ", "*** Move to: "
_ENVIRONMENT = "*** Environment ID: "
_HEREDOC_START = re.compile(r"<<-?\s*(['\"]?)(\w+)\1")
_CONTEXT_LINES = 1
_LINE = re.compile(r"[^\n]*\n|[^\n]+")


class HunkInvalid(PatchInvalid):
    """An operation cannot be read; `line` counts from 1 at the first line of the patch."""

    def __init__(self, line: int, why: str) -> None:
        super().__init__(f"invalid hunk at line {line}, {why}")
        self.line = line
        self.why = why


@dataclass(frozen=True, slots=True)
class AddFile:
    path: str
    content: str


@dataclass(frozen=True, slots=True)
class DeleteFile:
    path: str


@dataclass(slots=True)
class Chunk:
    """`old` lines become `new` ones, behind the line `context` if given, at the end of the file if `at_end`."""

    context: str | None = None
    old: list[str] = field(default_factory=list[str])
    new: list[str] = field(default_factory=list[str])
    at_end: bool = False


@dataclass(frozen=True, slots=True)
class UpdateFile:
    path: str
    move_to: str | None
    chunks: tuple[Chunk, ...]


Operation = AddFile | DeleteFile | UpdateFile


@dataclass(frozen=True, slots=True)
class Patch:
    operations: tuple[Operation, ...]
    environment: str | None = None


def parse_patch(text: str) -> Patch:
    """Read a patch. Raises `PatchInvalid` (its frame is wrong) or `HunkInvalid` (an operation is)."""
    lines = _peel([line.removesuffix("\r") for line in text.strip().split("\n")])
    if lines[-1].strip() != _END and (lines[0].strip() == _BEGIN or lines == [""]):
        raise PatchInvalid(f"invalid patch: The last line of the patch must be '{_END}'")
    if lines[0].strip() != _BEGIN:
        raise PatchInvalid(f"invalid patch: The first line of the patch must be '{_BEGIN}'")
    return _Parser(lines).run()


def _peel(lines: list[str]) -> list[str]:
    """Take off a heredoc around the patch."""
    match = _HEREDOC_START.fullmatch(lines[0].strip())
    if match and len(lines) >= 4 and lines[-1].strip() == match[2]:
        return "\n".join(lines[1:-1]).strip().split("\n")
    return lines


class _Parser:
    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = lines
        self.place = 1
        self.end = len(lines) - 1

    def run(self) -> Patch:
        environment = None
        if self.place < self.end and self.lines[1].startswith(_ENVIRONMENT):
            environment = self.lines[1][len(_ENVIRONMENT) :].strip()
            self.place += 1
        operations: list[Operation] = []
        while self.place < self.end:
            if self.lines[self.place].strip():
                operations.append(self._operation())
            else:
                self.place += 1
        return Patch(tuple(operations), environment)

    def _operation(self) -> Operation:
        number, header = self.place + 1, self.lines[self.place].strip()
        self.place += 1
        if header.startswith(_ADD):
            content: list[str] = []
            while self.place < self.end and self.lines[self.place].startswith("+"):
                content.append(self.lines[self.place][1:] + "\n")
                self.place += 1
            return AddFile(header[len(_ADD) :], "".join(content))
        if header.startswith(_DELETE):
            return DeleteFile(header[len(_DELETE) :])
        if header.startswith(_UPDATE):
            return self._update(header[len(_UPDATE) :], number)
        known = ", ".join(f"'{word}{{path}}'" for word in (_ADD, _DELETE, _UPDATE))
        raise HunkInvalid(number, f"'{header}' is not a valid hunk header. Valid hunk headers: {known}")

    def _update(self, path: str, number: int) -> UpdateFile:
        move_to = None
        if self.place < self.end and self.lines[self.place].startswith(_MOVE):
            move_to = self.lines[self.place][len(_MOVE) :].strip()
            self.place += 1
        chunks: list[Chunk] = []
        open_chunk: Chunk | None = None
        started = 0
        while self.place < self.end:
            line = self.lines[self.place]
            is_end_mark = line.strip() == _EOF
            if line.startswith("*** ") and not is_end_mark:
                break
            fresh = open_chunk is not None and not open_chunk.old and not open_chunk.new
            if not fresh and (line == "@@" or line.startswith("@@ ")):
                open_chunk = Chunk(context=line[3:] or None)
                chunks.append(open_chunk)
                started = self.place + 1
            elif is_end_mark and open_chunk is not None and not fresh:
                open_chunk.at_end = True
                open_chunk = None
            elif line[:1] in ("", " ", "+", "-") and not (open_chunk is None and chunks):
                if open_chunk is None:
                    open_chunk = Chunk()
                    chunks.append(open_chunk)
                if line[:1] != "+":
                    open_chunk.old.append(line[1:])
                if line[:1] != "-":
                    open_chunk.new.append(line[1:])
            elif line.strip():
                raise HunkInvalid(
                    self.place + 1,
                    f"Unexpected line found in update hunk: '{line}'. Every line should start with ' ' (context line), "
                    "'+' (added line), or '-' (removed line)",
                )
            self.place += 1
        if not chunks:
            raise HunkInvalid(number, f"Update file hunk for path '{path}' is empty")
        if not chunks[-1].old and not chunks[-1].new:
            raise HunkInvalid(started, "Update hunk does not contain any lines")
        return UpdateFile(path, move_to, tuple(chunks))


# --- planning


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What one operation does: `before` None for a new file (or one that is overwritten unread), `after` None for a
    deletion. Paths are absolute; `shown` is the path as the patch wrote it, of the new place for a move."""

    path: Path
    shown: str
    before: str | None
    after: str | None
    move_to: Path | None = None

    @property
    def letter(self) -> str:
        return "D" if self.after is None else "M" if self.before is not None else "A"

    @property
    def paths(self) -> tuple[Path, ...]:
        return (self.path,) if self.move_to is None else (self.path, self.move_to)


def plan(patch: Patch, cwd: Path, read: Callable[[Path], str]) -> list[Change]:
    """Check every operation against the files and work out the new contents. `read` gives a file's text, and raises
    `OSError` where it cannot. Raises `PatchInvalid` with the text for the model; nothing is changed either way."""
    targets: set[Path] = set()
    for operation in patch.operations:
        names = [operation.path]
        if isinstance(operation, UpdateFile) and operation.move_to:
            names.append(operation.move_to)
        for path in dict.fromkeys(_absolute(cwd, name) for name in names):
            if path in targets:
                raise PatchInvalid(f"invalid patch: multiple operations target {path}")
            targets.add(path)
    return [_change(operation, cwd, read) for operation in patch.operations]


def _absolute(cwd: Path, name: str) -> Path:
    """An absolute path without `.` and `..`, links left alone."""
    parts: list[str] = []
    for part in Path(cwd, name).parts:
        if part == ".." and len(parts) > 1:
            parts.pop()
        elif part != "..":
            parts.append(part)
    return Path(*parts)


def _change(operation: Operation, cwd: Path, read: Callable[[Path], str]) -> Change:
    path = _absolute(cwd, operation.path)
    match operation:
        case AddFile():
            return Change(path=path, shown=operation.path, before=None, after=operation.content)
        case DeleteFile():
            return Change(path=path, shown=operation.path, before=_read(read, path, "Failed to read"), after=None)
        case UpdateFile():
            before = _read(read, path, "Failed to read file to update")
            after = _apply(before, operation.chunks, path)
            move_to = _absolute(cwd, operation.move_to) if operation.move_to else None
            shown = operation.move_to or operation.path
            return Change(
                path=path, shown=shown, before=before, after=after, move_to=None if move_to == path else move_to
            )


def _read(read: Callable[[Path], str], path: Path, failed: str) -> str:
    try:
        return read(path)
    except OSError as error:
        raise PatchInvalid(f"{failed} {path}: {error.strerror} (os error {error.errno})") from error


def _apply(text: str, chunks: Sequence[Chunk], path: Path) -> str:
    """The text with all chunks applied, in order. New lines end as most lines of the file do."""
    raw = text.split("\n")
    if raw[-1] == "":
        raw.pop()
    crlf = sum(line.endswith("\r") for line in raw) * 2 > len(raw)
    ending = "\r" if crlf else ""
    lines = [line.removesuffix("\r") for line in raw] if crlf else raw
    result: list[str] = []
    copied = place = 0
    added_last: list[str] = []
    for chunk in chunks:
        if chunk.context is not None:
            found = _find(lines, [chunk.context], place)
            if found is None:
                raise PatchInvalid(f"Failed to find context '{chunk.context}' in {path}")
            place = found + 1
        old, new = chunk.old, chunk.new
        if not old:
            added_last += new
            continue
        found = _find(lines, old, place, at_end=chunk.at_end)
        if found is None and old[-1] == "":
            old = old[:-1]
            new = new[:-1] if new and new[-1] == "" else new
            found = _find(lines, old, place, at_end=chunk.at_end)
        if found is None:
            wanted = "\n".join(chunk.old)
            raise PatchInvalid(f"Failed to find expected lines in {path}:\n{wanted}")
        result += raw[copied:found]
        result += [line + ending for line in new]
        copied = place = found + len(old)
    result += raw[copied:]
    if added_last and result and result[-1] == "":
        result.pop()  # an empty last line is where the addition goes
    result += [line + ending for line in added_last]
    if result and crlf and not result[-1].endswith("\r"):
        result[-1] += "\r"
    return "".join(line + "\n" for line in result)


def _find(lines: Sequence[str], wanted: Sequence[str], start: int, *, at_end: bool = False) -> int | None:
    """Where the block stands at or after `start`: as it is, without blanks at the ends of lines, at both sides, and
    at last with typographic characters taken for plain ones."""
    if not wanted:
        return start
    last = len(lines) - len(wanted)
    if last < start:
        return None
    places = [last, *range(start, last)] if at_end else range(start, last + 1)
    for fold in (_exact, str.rstrip, str.strip, _plain):
        folded = [fold(line) for line in wanted]
        for place in places:
            if fold(lines[place]) == folded[0] and all(
                fold(lines[place + more]) == folded[more] for more in range(1, len(folded))
            ):
                return place
    return None


def _exact(line: str) -> str:
    return line


_TYPOGRAPHY = str.maketrans(
    dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-")
    | dict.fromkeys("\u2018\u2019\u201a\u201b", "'")
    | dict.fromkeys("\u201c\u201d\u201e\u201f", '"')
    | dict.fromkeys("\u00a0\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000", " ")
)


def _plain(line: str) -> str:
    return line.translate(_TYPOGRAPHY).strip()


# --- showing


def unified_diff(before: str, after: str) -> str:
    """The hunks that lead from one text to the other, without file headers."""
    old, new = _LINE.findall(before), _LINE.findall(after)
    out: list[str] = []
    for group in SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(_CONTEXT_LINES):
        (_, old_start, _, new_start, _), (_, _, old_end, _, new_end) = group[0], group[-1]
        out.append(f"@@ -{_span(old_start, old_end)} +{_span(new_start, new_end)} @@\n")
        for tag, i, j, k, m in group:
            if tag == "equal":
                out += [_shown(" ", line) for line in old[i:j]]
                continue
            out += [_shown("-", line) for line in old[i:j]]
            out += [_shown("+", line) for line in new[k:m]]
    return "".join(out)


def _span(start: int, end: int) -> str:
    length = end - start
    if length == 1:
        return str(start + 1)
    return f"{start + 1 if length else start},{length}"


def _shown(mark: str, line: str) -> str:
    return f"{mark}{line}" if line.endswith("\n") else f"{mark}{line}\n\\ No newline at end of file\n"
