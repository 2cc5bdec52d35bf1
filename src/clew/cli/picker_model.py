"""The picker as plain data: what is shown, what a key does, and the lines that a screen of some size gets.

Nothing here knows a terminal, a clock or a thread's file; `clew.cli.picker` brings those.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

__all__ = ["KEYS", "Line", "Outcome", "Picker", "Row", "Style", "cut", "render", "width_of"]

Style = Literal["", "dim", "bold", "selected", "error"]
Line = list[tuple[Style, str]]
"""Pieces of one line of the screen, each with how it looks."""

Outcome = Literal["open", "chosen", "left"]

_ROOM_FOR_FOLDER = 70
_ROOM_FOR_PREVIEW = 14
_ROOM_FOR_HEAD = 5
_LONGEST_QUERY = 200
_SHORTEST_ID = 4


@dataclass(frozen=True)
class Row:
    """One thread: what is shown of it. `when` is how long ago it changed, in a few words."""

    id: str
    title: str
    when: str = ""
    folder: str = ""
    name: str = ""
    archived: bool = False
    pinned: bool = False

    @cached_property
    def haystack(self) -> str:
        """What typed words are looked for in."""
        return f"{self.name}\n{self.title}\n{self.folder}".casefold()

    def fits(self, word: str) -> bool:
        """Whether a word occurs; one of a few characters may also begin the id."""
        return word in self.haystack or (len(word) >= _SHORTEST_ID and self.id.startswith(word))


@dataclass(frozen=True)
class Picker:
    """The state between two keys. Every method gives a new one.

    `here` and `archived` say which threads `rows` are; `loading` that there are more to come; `at` is the row under the
    cursor among those that fit `query`, `top` the first one on the screen. `preview` holds the id of a thread and the
    lines about it. `capped`: there are threads beyond those that were loaded.
    """

    rows: tuple[Row, ...] = ()
    query: str = ""
    at: int = 0
    top: int = 0
    width: int = 80
    height: int = 24
    here: bool = True
    archived: bool = False
    loading: bool = True
    capped: bool = False
    preview: tuple[str, tuple[str, ...]] = ("", ())
    problem: str = ""
    outcome: Outcome = "open"
    measure: Callable[[str], int] = field(default=len, compare=False)
    """How many columns a text takes on this terminal."""

    @cached_property
    def fitting(self) -> tuple[Row, ...]:
        """The rows in which every typed word occurs."""
        words = self.query.casefold().split()
        return tuple(row for row in self.rows if all(map(row.fits, words))) if words else self.rows

    @property
    def current(self) -> Row | None:
        """The row under the cursor."""
        return self.fitting[self.at] if self.at < len(self.fitting) else None

    @property
    def listed(self) -> int:
        """How many rows the screen has room for, one at least."""
        return max(1, self.height - len(_head(self)) - len(_tail(self)))

    def loaded(self, rows: Sequence[Row], *, done: bool, capped: bool = False) -> Picker:
        """More rows came. The cursor stays on its thread."""
        return replace(self, rows=(*self.rows, *rows), loading=not done, capped=capped).settled()

    def failed(self, problem: str) -> Picker:
        return replace(self, loading=False, problem=problem)

    def emptied(self) -> Picker:
        """Other threads are wanted: what was loaded does not count any more."""
        return replace(self, rows=(), loading=True, capped=False, at=0, top=0, problem="")

    def resized(self, width: int, height: int) -> Picker:
        return replace(self, width=max(1, width), height=max(1, height)).settled()

    def previewed(self, thread_id: str, lines: Iterable[str]) -> Picker:
        return replace(self, preview=(thread_id, tuple(lines)))

    def typed(self, text: str) -> Picker:
        """Text goes behind what was typed before; the cursor goes to the first row that fits."""
        clean = " ".join(text.split()) if len(text) > 1 else text
        if not clean.isprintable():
            return self
        return self._asking((self.query + clean)[:_LONGEST_QUERY])

    def pressed(self, key: str) -> Picker:
        """What a key of `KEYS` does; others do nothing."""
        action = KEYS.get(key)
        return action(self) if action is not None else self

    def settled(self) -> Picker:
        """With the cursor on a row that is there, and that row on the screen."""
        last = max(0, len(self.fitting) - 1)
        at = min(self.at, last)
        room = self.listed
        top = min(max(self.top, at - room + 1), at)
        top = max(0, min(top, len(self.fitting) - room))
        return self if (at, top) == (self.at, self.top) else self._moved(at, top)

    def _moved(self, at: int, top: int) -> Picker:
        moved = replace(self, at=at, top=top)
        # Same rows and same words: what fits need not be looked for again.
        if "fitting" in self.__dict__:
            moved.__dict__["fitting"] = self.fitting
        return moved

    def _asking(self, query: str) -> Picker:
        return self if query == self.query else replace(self, query=query, at=0, top=0).settled()

    def _by(self, rows: int) -> Picker:
        last = max(0, len(self.fitting) - 1)
        return self._moved(min(max(self.at + rows, 0), last), self.top).settled()


def _without_word(picker: Picker) -> Picker:
    kept = picker.query.rstrip()
    return picker._asking(kept[: kept.rfind(" ") + 1])  # pyright: ignore[reportPrivateUsage] - a key of this model


def _asks(query: Callable[[str], str]) -> Callable[[Picker], Picker]:
    return lambda picker: picker._asking(query(picker.query))  # pyright: ignore[reportPrivateUsage] - as above


def _steps(rows: Callable[[Picker], int]) -> Callable[[Picker], Picker]:
    return lambda picker: picker._by(rows(picker))  # pyright: ignore[reportPrivateUsage] - as above


def _chosen(picker: Picker) -> Picker:
    return replace(picker, outcome="chosen") if picker.current is not None else picker


KEYS: dict[str, Callable[[Picker], Picker]] = {
    "up": _steps(lambda _: -1),
    "c-p": _steps(lambda _: -1),
    "down": _steps(lambda _: 1),
    "c-n": _steps(lambda _: 1),
    "pageup": _steps(lambda picker: -picker.listed),
    "pagedown": _steps(lambda picker: picker.listed),
    "home": _steps(lambda picker: -len(picker.fitting)),
    "end": _steps(lambda picker: len(picker.fitting)),
    "backspace": _asks(lambda query: query[:-1]),
    "c-u": _asks(lambda _: ""),
    "c-w": _without_word,
    "tab": lambda picker: replace(picker, here=not picker.here).emptied(),
    "c-a": lambda picker: replace(picker, archived=not picker.archived).emptied(),
    "enter": _chosen,
    # The first one takes back what was typed, as in most pickers.
    "escape": lambda picker: picker.pressed("c-u") if picker.query else replace(picker, outcome="left"),
    "c-c": lambda picker: replace(picker, outcome="left"),
    "c-d": lambda picker: replace(picker, outcome="left"),
}


# -- the screen


def render(picker: Picker) -> list[Line]:
    """The lines of the screen: never more than its height, never wider than its width."""
    head, tail = _head(picker), _tail(picker)
    room = max(1, picker.height - len(head) - len(tail))
    lines = [*head, *_list(picker, room), *tail][: picker.height]
    return [_fitted(line, picker.width, picker.measure) for line in lines]


def _head(picker: Picker) -> list[Line]:
    query: Line = [("bold", "> "), ("", picker.query), ("dim", "" if picker.query else "type to search")]
    if picker.height < _ROOM_FOR_HEAD:
        return [query] if picker.height > 1 else []
    scope = "threads of this folder" if picker.here else "threads of all folders"
    if picker.archived:
        scope = "archived " + scope
    count = f"{len(picker.fitting)} of {len(picker.rows)}" if picker.query else f"{len(picker.rows)}"
    more = " …" if picker.loading else "+" if picker.capped else ""
    return [[("bold", "Go on with "), ("", scope), ("dim", f"  {count}{more}")], query]


def _list(picker: Picker, room: int) -> list[Line]:
    if picker.problem:
        return _padded([[("error", f"  {picker.problem}")]], room)
    if not picker.fitting:
        return _padded([[("dim", f"  {_nothing(picker)}")]], room)
    shown = picker.fitting[picker.top : picker.top + room]
    when = max(picker.measure(row.when) for row in shown)
    return _padded(
        [_row(picker, row, when, chosen=picker.top + place == picker.at) for place, row in enumerate(shown)], room
    )


def _nothing(picker: Picker) -> str:
    if picker.loading:
        return "looking …"
    if picker.query:
        return "nothing fits what you typed"
    if picker.here:
        return "nothing yet in this folder; Tab shows all folders"
    return "nothing is archived" if picker.archived else "there is no thread yet"


def _row(picker: Picker, row: Row, when: int, *, chosen: bool) -> Line:
    folder = row.folder if picker.width >= _ROOM_FOR_FOLDER and not picker.here else ""
    side = min(picker.width // 3, picker.measure(folder)) if folder else 0
    room = picker.width - 2 - when - 2 - (side + 2 if side else 0)
    named = f"{row.name}  " if row.name else ""
    title = ("* " if row.pinned else "") + named + (row.title if row.title != row.name else "")
    mark: Style = "selected" if chosen else ""
    line: Line = [
        (mark or "bold", "> " if chosen else "  "),
        (mark or "dim", f"{cut(row.when, when, picker.measure):<{when}}  "),
        (mark, _filled(title or row.id, room, picker.measure)),
    ]
    if side:
        line.append((mark or "dim", "  " + _tail_of(folder, side, picker.measure)))
    return line


def _tail(picker: Picker) -> list[Line]:
    if picker.height < _ROOM_FOR_HEAD + 1:
        return []
    scope = "all folders" if picker.here else "this folder"
    archived = "active" if picker.archived else "archived"
    keys: Line = [("dim", f"Enter go on · Esc leave · Tab {scope} · Ctrl-A {archived} · ↑ ↓ PgUp PgDn")]
    if picker.height < _ROOM_FOR_PREVIEW:
        return [keys]
    room = picker.height // 3
    current = picker.current
    thread_id, lines = picker.preview
    shown = lines if current is not None and thread_id == current.id else ()
    rule: Line = [("dim", "─" * picker.width)]
    return [rule, *_padded([[("dim", f"  {line}")] for line in shown[-room:]], room), keys]


def _padded(lines: list[Line], room: int) -> list[Line]:
    return [*lines, *([[] for _ in range(room - len(lines))])]


def _fitted(line: Line, width: int, measure: Callable[[str], int]) -> Line:
    out: Line = []
    for style, text in line:
        piece = cut(text, width, measure)
        width -= measure(piece)
        if piece:
            out.append((style, piece))
    return out


def cut(text: str, width: int, measure: Callable[[str], int] = len) -> str:
    """The beginning of a text that fits into `width` columns, with `…` where something is missing."""
    if measure(text) <= width:
        return text
    if width < 1:
        return ""
    kept = text[: width - 1]  # no character takes less than a column, but for marks upon another
    while kept and measure(kept) > width - 1:
        kept = kept[:-1]
    return kept + "…"


def _tail_of(text: str, width: int, measure: Callable[[str], int]) -> str:
    """The end of a path that fits: the last folders tell most."""
    if measure(text) <= width:
        return text
    kept = text[-(width - 1) :] if width > 1 else ""
    while kept and measure(kept) > width - 1:
        kept = kept[1:]
    return "…" + kept


def _filled(text: str, width: int, measure: Callable[[str], int]) -> str:
    text = cut(text, width, measure)
    return text + " " * (width - measure(text))


def width_of(line: Line, measure: Callable[[str], int] = len) -> int:
    """The columns a line takes."""
    return sum(measure(text) for _, text in line)
