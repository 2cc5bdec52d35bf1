"""What is said when no thread is found."""

from __future__ import annotations

import pytest

from clew.cli import main
from clew.errors import ThreadNotFound

_LIST = "`clew list` shows the threads of this home."


@pytest.mark.parametrize(
    ("reference", "message", "hint"),
    [
        ("12", "no thread is called 12", f"The beginning of an id needs 8 characters. {_LIST}"),
        ("0199A21", "no thread is called 0199A21", f"The beginning of an id needs 8 characters. {_LIST}"),
        ("0199a213", "no thread is called 0199a213", _LIST),
        ("parser", "no thread is called parser", _LIST),
        (
            "last",
            "there is no thread yet",
            'Start one: clew exec "…". What was put away is shown by `clew list --archived`.',
        ),
    ],
)
def test_the_hint_fits_what_was_asked_for(reference: str, message: str, hint: str) -> None:
    error = ThreadNotFound(reference)
    assert (error.message, error.hint) == (message, hint)


@pytest.mark.usefixtures("homes")
@pytest.mark.parametrize("words", [["show", "last"], ["fork", "last"], ["rename", "last", "x"]])
def test_an_empty_home_has_no_last_thread(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 1
    assert capsys.readouterr().err.startswith("Error: there is no thread yet\n")
