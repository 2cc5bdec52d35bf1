"""What a line of a conversation means."""

from __future__ import annotations

import pytest

from clew.cli.slash import COMMANDS, Command, Say, Wrong, read_line, slash_help


@pytest.mark.parametrize(
    ("line", "meaning"),
    [
        ("", None),
        ("   ", None),
        ("  hello  ", Say("hello")),
        ("two\nlines", Say("two\nlines")),
        ("//etc/hosts is odd", Say("/etc/hosts is odd")),
        ("//", Say("/")),
        ("a /quit inside", Say("a /quit inside")),
        ("/quit", Command("quit")),
        ("/EXIT ", Command("quit")),
        ("/save  my   parser ", Command("save", "my parser")),
        ("/name parser", Command("name", "parser")),
        ("/fork", Command("fork")),
        ("/save", Wrong("/save needs a name", "Usage: /save NAME")),
        ("/quit now", Wrong("/quit takes nothing", "Usage: /quit")),
        (
            "/frok",
            Wrong("there is no /frok", "Did you mean /fork? /help lists the commands; begin with // to send it."),
        ),
        ("/usr/bin", Wrong("there is no /usr/bin", "/help lists the commands; begin with // to send it.")),
        ("/", Wrong("there is no /", "/help lists the commands; begin with // to send it.")),
    ],
)
def test_lines_are_read(line: str, meaning: object) -> None:
    assert read_line(line) == meaning


def test_the_help_names_every_command_with_its_argument() -> None:
    lines = slash_help().splitlines()
    assert [line.split("  ")[1].strip() for line in lines] == [*(command.usage for command in COMMANDS), "//…"]
