"""Reading shell lines: which plain commands a line consists of, how an argv is shown, and patches in disguise.

This is a reader for deciding, not a shell: what it does not understand it reports as not plain.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

__all__ = ["Line", "PatchCommand", "actions", "display", "find_patch", "inner_script", "read_line"]

_SHELLS = frozenset({"bash", "dash", "ksh", "sh", "zsh"})
_KEYWORDS = frozenset({"!", "{", "}", "do", "done", "elif", "else", "esac", "fi", "if", "then", "until", "while"})
_OPERATORS = re.compile(r"&&|\|\||\|&|;;|[;&|\n]")
_REDIRECTION = re.compile(r"\d*(<<<|<<-?|>>|>&|<&|<>|>\||&>>|&>|[<>])")


class Line(NamedTuple):
    """The simple commands of a shell line. `plain` is False when it contains anything whose effect is not visible in
    the words alone: redirections, substitutions, variables, globs, grouping, control structures."""

    commands: list[list[str]]
    plain: bool


def display(argv: Sequence[str]) -> str:
    """An argv as one line that a shell would read back."""
    return shlex.join(argv)


def inner_script(argv: Sequence[str]) -> str | None:
    """The script of `bash -lc SCRIPT` and its relatives."""
    if len(argv) < 3 or PurePath(argv[0]).name not in _SHELLS:
        return None
    for place, word in enumerate(argv[1:-1], start=1):
        if word.startswith("-") and not word.startswith("--") and "c" in word:
            return argv[place + 1]
        if not word.startswith("-"):
            return None
    return None


def read_line(text: str) -> Line:
    """Split a shell line. Never fails: what cannot be read is not plain, and its words are still listed."""
    reader = _Reader(text)
    reader.run()
    return Line([words for words in reader.commands if words], reader.plain)


class _Reader:
    def __init__(self, text: str) -> None:
        self.text = text
        self.commands: list[list[str]] = [[]]
        self.plain = True
        self._word: list[str] | None = None
        self._is_target = False  # the next word belongs to a redirection

    def run(self) -> None:
        text, place = self.text, 0
        while place < len(text):
            char = text[place]
            if char == "\\":
                if text[place + 1 : place + 2] != "\n":
                    self._put(text[place + 1 : place + 2])
                place += 2
            elif char == "'":
                end = text.find("'", place + 1)
                if end < 0:
                    self.plain = False
                    end = len(text)
                self._put(text[place + 1 : end])
                place = end + 1
            elif char == '"':
                place = self._double_quoted(place + 1)
            elif char in " \t\r":
                self._end_word()
                place += 1
            elif char == "#" and self._word is None:
                end = text.find("\n", place)
                place = len(text) if end < 0 else end
            elif char in "<>" or (char == "&" and text[place + 1 : place + 2] == ">"):
                place = self._redirection(place)
            elif match := _OPERATORS.match(text, place):
                if match[0] in ("&", ";;"):
                    self.plain = False
                self._end_command()
                place = match.end()
            elif char in "()`" or text.startswith("$(", place):
                self.plain = False
                self._end_command()
                place += 1
            else:
                inside = self._word is not None and (char in "~!" or (char == "=" and bool(self.commands[-1])))
                if char in "$*?[]{}~!=" and not inside:
                    self.plain = False
                self._put(char)
                place += 1
        self._end_command()

    def _double_quoted(self, place: int) -> int:
        self._put("")
        text = self.text
        while place < len(text):
            char = text[place]
            if char == '"':
                return place + 1
            if char == "\\" and text[place + 1 : place + 2] in ("\\", '"', "$", "`"):
                self._put(text[place + 1])
                place += 2
                continue
            if char == "`" or text.startswith("$(", place):
                # A substitution runs its own commands; they are listed as if they stood alone.
                self.plain = False
                end = text.find("`" if char == "`" else ")", place + 2)
                end = len(text) if end < 0 else end
                self.commands[-1:-1] = read_line(text[place + (1 if char == "`" else 2) : end]).commands
                place = end + 1
                continue
            if char == "$":
                self.plain = False
            self._put(char)
            place += 1
        self.plain = False
        return place

    def _redirection(self, place: int) -> int:
        self.plain = False
        if self._word is not None and "".join(self._word).isdigit():
            self._word = None
        self._end_word()
        self._is_target = True
        match = _REDIRECTION.match(self.text, place) or re.compile("&>").match(self.text, place)
        return match.end() if match else place + 1

    def _put(self, text: str) -> None:
        self._word = [] if self._word is None else self._word
        self._word.append(text)

    def _end_word(self) -> None:
        if self._word is None:
            return
        word, self._word = "".join(self._word), None
        if self._is_target:
            self._is_target = False
            return
        if word in _KEYWORDS and not self.commands[-1]:
            self.plain = False
            return
        self.commands[-1].append(word)

    def _end_command(self) -> None:
        self._end_word()
        self._is_target = False
        self.commands.append([])


class PatchCommand(NamedTuple):
    """A shell line that does nothing but apply a patch, in `workdir` below the call's directory (None: right there)."""

    patch: str
    workdir: str | None


_HEREDOC = re.compile(
    r"\s*(?:cd[ \t]+(?P<dir>'[^'\n]+'|\"[^\"\n$`\\]+\"|[^\s'\"$`&;|<>()*?\\]+)[ \t]*&&\s*)?"
    r"(?:apply_patch|applypatch)[ \t]*<<-?[ \t]*(?P<quote>['\"]?)(?P<mark>\w+)(?P=quote)[ \t]*\r?\n"
    r"(?P<patch>.*?)\r?\n[ \t]*(?P=mark)\s*",
    re.DOTALL,
)


def find_patch(script: str) -> PatchCommand | None:
    """The patch of `apply_patch <<'EOF'` (also behind `cd DIR &&`), or of `apply_patch 'PATCH'`; None for any line
    that does something else as well."""
    if match := _HEREDOC.fullmatch(script):
        folder = match["dir"]
        return PatchCommand(match["patch"], folder.strip("'\"") if folder else None)
    if "apply_patch" not in script and "applypatch" not in script:
        return None
    line = read_line(script)
    if line.plain and len(line.commands) == 1 and len(words := line.commands[0]) == 2:
        program, patch = words
        if program in ("apply_patch", "applypatch") and "*** Begin Patch" in patch:
            return PatchCommand(patch, None)
    return None


def actions(script: str, cwd: str) -> list[dict[str, Any]]:
    """What a command line is about, for people: reading one file, listing files, searching; else `unknown`."""
    unknown: list[dict[str, Any]] = [{"type": "unknown", "command": script}]
    line = read_line(script)
    if not line.plain or len(line.commands) != 1:
        return unknown
    program, *arguments = line.commands[0]
    operands = [word for word in arguments if not word.startswith("-")]
    if program == "ls" and len(operands) <= 1:
        return [{"type": "listFiles", "command": script, "path": operands[0] if operands else None}]
    if program == "cat" and len(arguments) == len(operands) == 1:
        path = PurePath(cwd, operands[0])
        return [{"type": "read", "command": script, "name": path.name, "path": str(path)}]
    if program in ("rg", "grep") and operands and len(operands) <= 2:
        path_text = operands[1] if len(operands) == 2 else None
        return [{"type": "search", "command": script, "query": operands[0], "path": path_text}]
    return unknown
