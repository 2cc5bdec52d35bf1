"""Where the prompt of `clew exec` comes from."""

from __future__ import annotations

import io
import os

import pytest

from clew.cli.prompt import NoPrompt, read_prompt
from clew.errors import ClewError


def _read(
    argument: str | None, piped: bytes | None, *, tty: bool = False, watched: bool = True
) -> tuple[str, list[str]]:
    said: list[str] = []
    stdin = None if piped is None else io.BytesIO(piped)
    return read_prompt(argument, stdin, tty=tty, watched=watched, say=said.append), said


def test_an_argument_is_the_prompt() -> None:
    assert _read("say hi", b"unread", tty=True) == ("say hi", [])
    assert _read("say hi", None) == ("say hi", [])


def test_without_an_argument_standard_input_is_the_prompt() -> None:
    assert _read(None, "grüß\n".encode()) == ("grüß\n", ["Reading prompt from stdin..."])
    assert _read("-", b"x") == ("x", ["Reading prompt from stdin..."])


def test_a_dash_reads_a_terminal_too() -> None:
    assert _read("-", b"typed", tty=True) == ("typed", ["Reading prompt from stdin..."])


def test_piped_text_is_added_to_an_argument() -> None:
    assert _read("say hi", b"piped context") == (
        "say hi\n\n<stdin>\npiped context\n</stdin>",
        ["Reading additional input from stdin..."],
    )
    assert _read("say hi", b"\n") == ("say hi", ["Reading additional input from stdin..."])


def test_nothing_beside_an_argument_is_not_worth_a_word() -> None:
    assert _read("say hi", b"") == ("say hi", [])


def test_where_nobody_looks_only_a_missing_prompt_is_waited_for_in_words() -> None:
    assert _read("say hi", b"x", watched=False) == ("say hi\n\n<stdin>\nx\n</stdin>", [])
    assert _read(None, b"x", watched=False) == ("x", ["Reading prompt from stdin..."])


def test_an_input_that_neither_comes_nor_ends_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.cli.prompt._PATIENCE", 0.01)
    reader, writer = os.pipe()
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        os.write(writer, b"late")
        os.close(writer)

    with os.fdopen(reader, "rb") as stdin:
        text = read_prompt("say hi", stdin, tty=False, watched=True, say=say)
    assert (text, said) == ("say hi\n\n<stdin>\nlate\n</stdin>", ["Reading additional input from stdin..."])


@pytest.mark.parametrize(
    "data",
    [b"\xef\xbb\xbfgr\xc3\xbcn", b"\xff\xfe" + "grün".encode("utf-16-le"), b"\xfe\xff" + "grün".encode("utf-16-be")],
)
def test_byte_order_marks_are_understood(data: bytes) -> None:
    assert _read(None, data)[0] == "grün"


def test_nothing_to_ask_is_an_error() -> None:
    with pytest.raises(NoPrompt, match=r"^No prompt provided via stdin\.$"):
        _read(None, b"  \n")
    with pytest.raises(NoPrompt, match="specify one as an argument"):
        _read(None, b"", tty=True)
    with pytest.raises(NoPrompt):
        _read(None, None)


def test_bytes_that_are_no_text_are_an_error() -> None:
    with pytest.raises(ClewError, match=r"standard input is not UTF-8 text \(byte 2\)"):
        _read(None, b"ab\xff")
