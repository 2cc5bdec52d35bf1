"""Where each key of a TOML text stands, so that a wrong value can be shown with its line.

The text has been read by `tomllib` before, so it is known to be well-formed; this only finds lines.
"""

from __future__ import annotations

import re
import tomllib

__all__ = ["KeyPath", "key_lines", "split_key"]

KeyPath = tuple[str, ...]
"""The parts of a dotted key."""

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SPACES = re.compile(r"[ \t]*")
_KEY_PART = re.compile(r'[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'')
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"""(?:""|"|)(?!")|\'\'\'.*?\'\'\'(?:\'\'|\'|)(?!\')|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL
)
_PLAIN = re.compile(r"[^,\]}#\n]*")


def split_key(text: str) -> KeyPath | None:
    """The parts of a dotted key as TOML writes it (`a."b.c".d`); None if it is not one."""
    scan = _Scanner(text.strip())
    try:
        path = scan.key()
    except ValueError:
        return None
    return path if scan.at == len(scan.text) else None


def key_lines(text: str) -> dict[KeyPath, int]:
    """The 1-based line of every key and table header, keyed by its whole path. Of repeated tables (`[[x]]`) the first
    one counts."""
    scan = _Scanner(text)
    scan.document()
    return scan.lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.lines: dict[KeyPath, int] = {}
        self._counted = 0
        self._line = 1

    def document(self) -> None:
        table: KeyPath = ()
        while True:
            self._skip(_BLANK)
            if self.at >= len(self.text):
                return
            if self.text[self.at] == "[":
                line = self._here()
                self.at += 2 if self.text.startswith("[[", self.at) else 1
                table = self.key()
                self.lines.setdefault(table, line)
                self.at = self.text.index("]", self.at) + 1
                self._skip(re.compile(r"\]?"))
            else:
                self._pair(table)

    def key(self) -> KeyPath:
        """A dotted key from here on; raises ValueError where there is none."""
        parts: list[str] = []
        while True:
            self._skip(_SPACES)
            match = _KEY_PART.match(self.text, self.at)
            if match is None:
                raise ValueError(self.at)
            self.at = match.end()
            part = match[0]
            parts.append(part if part[0] not in "\"'" else str(tomllib.loads(f"x = {part}")["x"]))
            self._skip(_SPACES)
            if not self.text.startswith(".", self.at):
                return tuple(parts)
            self.at += 1

    def _pair(self, table: KeyPath) -> None:
        line = self._here()
        path = (*table, *self.key())
        self.lines.setdefault(path, line)
        self.at = self.text.index("=", self.at) + 1
        self._value(path)

    def _value(self, path: KeyPath) -> None:
        self._skip(_SPACES)
        opening = self.text[self.at : self.at + 1]
        if opening in {"[", "{"}:
            self.at += 1
            closing = "]" if opening == "[" else "}"
            while True:
                self._skip(_BLANK)
                if self.text[self.at] == closing:
                    self.at += 1
                    return
                if self.text[self.at] == ",":
                    self.at += 1
                elif opening == "{":
                    self._pair(path)
                else:
                    self._value(path)
        match = _STRING.match(self.text, self.at) or _PLAIN.match(self.text, self.at)
        assert match is not None  # the plain pattern matches the empty text too
        self.at = match.end()

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.at)
        if match is not None:
            self.at = match.end()

    def _here(self) -> int:
        self._line += self.text.count("\n", self._counted, self.at)
        self._counted = self.at
        return self._line
