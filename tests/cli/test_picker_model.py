"""The list to choose from as plain data: keys, scrolling, words, and what fits on screens of all sizes."""

from __future__ import annotations

import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.cli.picker_model import KEYS, Picker, Row, cut, render, width_of

ROWS = tuple(Row(id=f"{number:08x}-id", title=f"thread {number}", when="1 d ago") for number in range(30))


def columns(text: str) -> int:
    """How wide terminals show a text."""
    return sum(2 if unicodedata.east_asian_width(letter) in "WF" else 1 for letter in text)


def shown(picker: Picker) -> list[str]:
    return ["".join(text for _, text in line).rstrip() for line in render(picker)]


def pressed(picker: Picker, *keys: str) -> Picker:
    for key in keys:
        picker = picker.pressed(key)
    return picker


def full(**more: object) -> Picker:
    return replace(Picker(), **more).loaded(ROWS, done=True)  # pyright: ignore[reportArgumentType] - named by tests


def test_the_screen_of_a_common_terminal() -> None:
    picker = Picker(here=False, measure=columns).loaded(
        [
            Row(id="a", title="why does it fail?", when="2 min ago", folder="~/parser"),
            Row(
                id="b",
                title="日本語のテキスト" * 8,
                when="3 d ago",
                folder="~/some/folder/that/is/quite/deep/デスクトップ",
            ),
            Row(id="c", title="old", name="parser", when="2026-07-01", folder="~", pinned=True),
        ],
        done=True,
    )
    assert shown(picker.previewed("a", ["> why does it fail?", "• Because."])) == [
        "Go on with threads of all folders  3",
        "> type to search",
        "> 2 min ago   why does it fail?                                         ~/parser",
        "  3 d ago     日本語のテキスト日本語のテキスト日本…   …s/quite/deep/デスクトップ",
        "  2026-07-01  * parser  old                                                    ~",
        *[""] * 9,
        "─" * 80,
        "  > why does it fail?",
        "  • Because.",
        *[""] * 6,
        "Enter go on · Esc leave · Tab this folder · Ctrl-A archived · ↑ ↓ PgUp PgDn",
    ]


@pytest.mark.parametrize(
    ("picker", "line"),
    [
        (Picker(), "  looking …"),
        (Picker().loaded([], done=True), "  nothing yet in this folder; Tab shows all folders"),
        (Picker(here=False).loaded([], done=True), "  there is no thread yet"),
        (Picker(here=False, archived=True).loaded([], done=True), "  nothing is archived"),
        (full().typed("zzz"), "  nothing fits what you typed"),
        (Picker().failed("no home"), "  no home"),
    ],
)
def test_an_empty_list_says_why(picker: Picker, line: str) -> None:
    assert shown(picker)[2] == line
    assert picker.pressed("enter").outcome == "open"


def test_words_are_looked_for_as_they_are_typed() -> None:
    rows = (
        Row(id="1111aaaa", title="Parser: why?", folder="~/a"),
        Row(id="2222bbbb", title="other", name="Lexer", folder="~/parser"),
        Row(id="3333cccc", title="third", folder="~/c"),
    )
    picker = Picker().loaded(rows, done=True)

    def found(text: str) -> list[str]:
        return [row.id for row in picker.typed(text).fitting]

    assert found("PARSER") == ["1111aaaa", "2222bbbb"]
    assert found("parser lex") == ["2222bbbb"]
    assert found("3333") == ["3333cccc"]
    assert found("333") == [], "a few digits mean numbers in texts, not ids"
    assert found("  ") == ["1111aaaa", "2222bbbb", "3333cccc"]
    asked = pressed(picker.typed("parser").typed(" ").typed("lex"), "c-w", "backspace")
    assert (asked.query, pressed(asked, "c-u").query) == ("parser", "")
    assert picker.typed("two\nlines").query == "two lines"
    assert picker.typed("\x07").query == ""


def test_the_cursor_goes_where_the_keys_say_and_stays_on_the_screen() -> None:
    picker = full(height=12)
    assert picker.listed == 9
    places = {
        keys: pressed(picker, *keys).at
        for keys in [("down",), ("up",), ("pagedown",), ("end",), ("end", "up"), ("end", "pageup"), ("end", "home")]
    }
    assert places == {
        ("down",): 1,
        ("up",): 0,
        ("pagedown",): 9,
        ("end",): 29,
        ("end", "up"): 28,
        ("end", "pageup"): 20,
        ("end", "home"): 0,
    }
    assert shown(pressed(picker, "end"))[2:11] == [
        f"{'>' if n == 29 else ' '} 1 d ago  thread {n}" for n in range(21, 30)
    ]


def test_rows_that_come_later_leave_the_cursor_on_its_thread() -> None:
    picker = Picker().loaded(ROWS[:5], done=False).pressed("end")
    more = picker.loaded(ROWS[5:], done=True)
    assert (picker.current, more.current, more.loading) == (ROWS[4], ROWS[4], False)


def test_other_threads_begin_anew_and_keep_what_was_typed() -> None:
    picker = pressed(full(here=True).typed("thread"), "end", "tab")
    assert (picker.here, picker.rows, picker.at, picker.loading, picker.query) == (False, (), 0, True, "thread")
    picker = picker.pressed("c-a")
    assert (picker.archived, picker.loading) == (True, True)


def test_escape_takes_back_what_was_typed_and_then_leaves() -> None:
    picker = full().typed("thread 7")
    assert picker.pressed("enter").outcome == "chosen"
    assert (picker.pressed("escape").query, picker.pressed("escape").outcome) == ("", "open")
    assert pressed(picker, "escape", "escape").outcome == "left"
    assert [picker.pressed(key).outcome for key in ("c-c", "c-d")] == ["left", "left"]


def test_a_preview_of_another_thread_is_not_shown() -> None:
    picker = full().previewed(ROWS[0].id, ["> hello"])
    assert "  > hello" in shown(picker)
    assert "  > hello" not in shown(picker.pressed("down"))


TEXTS = st.text(st.characters(blacklist_categories=["C", "M"], blacklist_characters="\n"), max_size=60)
ROW = st.builds(Row, id=st.uuids().map(str), title=TEXTS, when=st.sampled_from(["now", "2026-07-01"]), folder=TEXTS)
ACTIONS = st.one_of(
    st.sampled_from([("key", key) for key in KEYS if key not in ("enter", "escape", "c-c", "c-d")]),
    st.tuples(st.just("text"), TEXTS),
    st.tuples(st.just("rows"), st.lists(ROW, max_size=20)),
    st.tuples(st.just("size"), st.tuples(st.integers(1, 130), st.integers(1, 50))),
    st.tuples(st.just("preview"), st.lists(TEXTS, max_size=8)),
)


@given(st.lists(ACTIONS, max_size=25))
def test_whatever_is_pressed_the_screen_holds_and_the_cursor_is_on_it(actions: list[tuple[str, object]]) -> None:
    picker = Picker(measure=columns)
    for action in actions:
        match action:
            case ("key", str(key)):
                picker = picker.pressed(key)
            case ("text", str(text)):
                picker = picker.typed(text)
            case ("rows", list(rows)):  # pyright: ignore[reportUnknownVariableType] - made above
                picker = picker.loaded(rows, done=True)  # pyright: ignore[reportUnknownArgumentType] - as above
            case ("size", (int(width), int(height))):
                picker = picker.resized(width, height)
            case ("preview", list(lines)) if picker.current is not None:  # pyright: ignore[reportUnknownVariableType] - as above
                picker = picker.previewed(picker.current.id, lines)  # pyright: ignore[reportUnknownArgumentType] - as above
            case _:
                pass
        words = picker.query.casefold().split()
        assert picker.fitting == tuple(row for row in picker.rows if all(row.fits(word) for word in words))
        assert (picker.current is None) == (not picker.fitting)
        lines = render(picker)
        assert len(lines) <= picker.height
        assert [line for line in lines if width_of(line, columns) > picker.width] == []
        if picker.fitting:
            assert picker.fitting[picker.at] == picker.current
            assert picker.top <= picker.at < picker.top + picker.listed
            assert picker.top == 0 or len(picker.fitting) - picker.top >= picker.listed, "no empty lines at the end"
            if picker.height > 1 and picker.width > 2:
                marked = [line for line in lines[: picker.listed + 2] if line and line[0][0] == "selected"]
                assert len(marked) == 1


@given(TEXTS, st.integers(0, 40))
def test_a_cut_text_fits_and_is_a_beginning(text: str, width: int) -> None:
    kept = cut(text, width, columns)
    assert columns(kept) <= width
    assert kept == text or text.startswith(kept.removesuffix("…"))
    assert kept == text or columns(text) > width
