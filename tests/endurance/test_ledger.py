"""The judge of the kill loop: it must see every kind of broken promise."""

from __future__ import annotations

from typing import Any

import pytest
from ledger import Ledger, Lost

from drivers import Request

THREAD = "a thread"


def _message(role: str, text: str) -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


def _call(name: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": name, "name": "exec_command", "arguments": "{}"}


def _output(name: str, text: str = "out") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": name, "output": text}


ONE = [_message("user", "one"), _call("c1"), _output("c1"), _message("assistant", "Re: one")]
TWO = [_message("user", "two"), _message("assistant", "Re: two")]
CUT_OFF = [_message("user", "cut off"), _call("c2")]
CLOSED = [*CUT_OFF, _output("c2", "aborted")]
NOW = [_message("user", "now")]


def _ledger() -> Ledger:
    """Two turns were answered, one was cut off, one is being asked."""
    ledger = Ledger()
    for text, items in (("one", ONE[:-1]), ("two", [*ONE, *TWO[:-1]])):
        ledger.expect(THREAD, text)
        ledger.answered(THREAD, text, [Request({"input": items})])
    ledger.expect(THREAD, "cut off")
    ledger.expect(THREAD, "now")
    return ledger


def _log(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"type": "response_item", "ordinal": ordinal, "payload": item} for ordinal, item in enumerate(items)]


@pytest.mark.parametrize("items", [[*ONE, *TWO, *NOW], [*ONE, *TWO, *CLOSED, *NOW]])
def test_a_whole_history_is_right_with_and_without_what_was_cut_off(items: list[dict[str, Any]]) -> None:
    ledger = _ledger()
    ledger.check_request(Request({"input": items}))
    ledger.check_log(THREAD, _log(items))


WRONG: dict[str, tuple[list[dict[str, Any]], str]] = {
    "lost": ([*ONE, *NOW], r"\['two'\] were answered and are missing"),
    "answer lost": ([*ONE[:-1], *TWO, *NOW], "'one' is followed by"),
    "doubled": ([*ONE, *TWO, *TWO, *NOW], "more than once"),
    "out of order": ([*TWO, *ONE, *NOW], "'one' was answered before"),
    "another output": ([*ONE[:2], _output("c1", "other"), ONE[3], *TWO, *NOW], "'one' is followed by"),
    "of another thread": ([*ONE, _message("user", "foreign"), *TWO, *NOW], "belong elsewhere"),
}


@pytest.mark.parametrize(("items", "why"), WRONG.values(), ids=WRONG)
def test_a_wrong_history_is_seen_in_requests_and_in_logs(items: list[dict[str, Any]], why: str) -> None:
    with pytest.raises(Lost, match=why):
        _ledger().check_request(Request({"input": items}))
    with pytest.raises(Lost, match=why):
        _ledger().check_log(THREAD, _log(items))


@pytest.mark.parametrize(
    "items",
    [[*ONE, *TWO, *CUT_OFF, *NOW], [*ONE, *TWO, *CLOSED, _output("c2"), *NOW], [*ONE, *TWO, _output("c3"), *NOW]],
    ids=["open call", "two outputs", "output without call"],
)
def test_a_request_closes_every_call_once(items: list[dict[str, Any]]) -> None:
    with pytest.raises(Lost):
        _ledger().check_request(Request({"input": items}))


def test_a_gap_in_the_ordinals_is_seen() -> None:
    lines = _log([*ONE, *TWO])
    del lines[2]
    with pytest.raises(Lost, match="ordinals"):
        _ledger().check_log(THREAD, lines)


def test_an_answer_that_no_model_gave_is_seen() -> None:
    ledger = Ledger()
    ledger.expect(THREAD, "one")
    with pytest.raises(Lost, match="never asked"):
        ledger.answered(THREAD, "one", [])
