"""Reading the documents: their blocks, links, tables and inline code."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
OURS = [ROOT / "README.md", *DOCS]
ALL = [*OURS, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]

_BLOCK = re.compile(r"(?:^<!-- (?P<mark>[^\n]*?) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d[:-]\d\d[:-]\d\d(?:\.\d+Z)?")
_DAY = re.compile(r"/\d{4}/\d\d/\d\d/")
_TURNS = re.compile(r'"turns": \d+')
_NUMBER = re.compile(r'("(?:size|\w+_tokens)":\s*)\d+')


class Block(NamedTuple):
    """A fenced block. `mark` is the comment on the line above it, empty without one."""

    path: Path
    line: int
    language: str
    mark: str
    text: str

    def __str__(self) -> str:
        return f"{self.path.name}:{self.line}"


def blocks(path: Path, language: str | None = None) -> list[Block]:
    text = path.read_text()
    found = [
        Block(path, text.count("\n", 0, match.start()) + 1, match["language"], match["mark"] or "", match["text"])
        for match in _BLOCK.finditer(text)
    ]
    return [block for block in found if language is None or block.language == language]


def prose(path: Path) -> str:
    """The text without its blocks."""
    return _BLOCK.sub("", path.read_text())


def inline_code(path: Path) -> list[str]:
    return [match[2].strip() for match in re.finditer(r"(`{1,2})((?:(?!\1).)+)\1", prose(path))]


def section(path: Path, heading: str) -> str:
    """The text under a heading, up to the next one of its level or above."""
    lines = path.read_text().splitlines()
    start = next(place for place, line in enumerate(lines) if re.fullmatch(rf"#+ {re.escape(heading)}", line))
    level = lines[start].index(" ")
    out: list[str] = []
    for line in lines[start + 1 :]:
        if re.match(rf"#{{1,{level}}} ", line):
            break
        out.append(line)
    return "\n".join(out)


def rows(text: str) -> Iterator[list[str]]:
    """The rows of the tables in a text, without their heads."""
    lines = text.splitlines()
    for before, line in zip(["", *lines], lines, strict=False):
        if not line.startswith("|") or re.fullmatch(r"[|\- ]+", line):
            continue
        following = lines[lines.index(line) + 1] if lines.index(line) + 1 < len(lines) else ""
        if not before.startswith("|") and re.fullmatch(r"[|\- ]+", following):
            continue
        yield [cell.strip() for cell in line.strip().strip("|").split("|")]


def normal(text: str) -> str:
    """Text without what differs from run to run: ids, times, sizes; and turns, which an index may have counted."""
    text = _TURNS.sub('"turns": null', text)
    text = _DAY.sub("/DAY/", _UUID.sub("ID", _MOMENT.sub("TIME", text)))
    return _NUMBER.sub(r"\1N", text)
