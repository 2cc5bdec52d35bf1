from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from written import completed, context, event, meta, said, started, written

from clew.errors import BadRequest
from clew.history import Cut, Place, find_cut, find_cut_back, find_turn
from clew.rollout.envelope import Line, Record, Skipped, encode_line
from clew.rollout.scan import Passes


def turn(name: str) -> list[Line]:
    return [started(name), context(name), said("user", name), event("user_message", message=name), completed(name)]


def place(records: list[Record | Skipped], lines: int, *, ordinals: bool = False) -> Place:
    if lines == len(records):
        return Place(lines, lines if ordinals else None, records[-1].end)
    return Place(lines, lines if ordinals else None, records[lines].start)


@pytest.mark.parametrize("ordinals", [False, True])
@pytest.mark.parametrize(
    ("where", "lines", "last", "left_out"),
    [
        ({}, 17, "c", 0),
        ({"after_turn": "a"}, 6, "a", 2),
        ({"after_turn": "c"}, 17, "c", 0),
        ({"before_turn": "a"}, 1, None, 3),
        ({"before_turn": "c"}, 11, "b", 1),
        ({"before_turn": "-1"}, 11, "b", 1),
        ({"after_turn": "1"}, 6, "a", 2),
    ],
)
def test_a_cut_falls_at_the_beginning_of_a_turn(
    ordinals: bool, where: dict[str, Any], lines: int, last: str | None, left_out: int
) -> None:
    mode = "paginated" if ordinals else "legacy"
    settings = event("thread_settings_applied", thread_settings={})
    records = written(meta(history_mode=mode), *turn("a"), *turn("b"), *turn("c"), settings, ordinals=ordinals)

    at = place(records, lines, ordinals=ordinals)
    assert find_cut(records, mode, **where) == Cut(at=at, last_turn_id=last, left_out=left_out)


def test_ordinals_go_on_where_a_line_has_none() -> None:
    records = written(meta(), *turn("a"), ordinals=True, first=7)
    gap = [line for line in records if isinstance(line, Record)]
    bare = written(*turn("b"))

    assert find_cut([*gap, *bare], "paginated", before_turn="b").at.ordinal == 13


def test_without_markers_a_turn_begins_with_its_message_and_what_was_told_before_it() -> None:
    told = said("user", "<environment_context>x</environment_context>")
    plain = [said("user", "q"), event("user_message", message="q"), context("x"), said("assistant", "a")]
    records = written(meta(), told, *plain, told, *plain)

    assert find_cut(records, "legacy", before_turn="rollout-8").at == place(records, 6)
    assert find_cut(records, "legacy", after_turn="rollout-3").at == place(records, 6)
    assert find_cut(records, "legacy", before_turn="rollout-3").at == place(records, 1)


def test_a_thread_in_the_middle_of_a_turn_can_be_taken_whole_or_before_that_turn() -> None:
    records = written(meta(), *turn("a"), started("b"))

    assert find_cut(records, "legacy") == Cut(at=place(records, 7), last_turn_id="b", open_turn_id="b")
    assert find_cut(records, "legacy", before_turn="b").last_turn_id == "a"
    with pytest.raises(BadRequest, match="has not ended"):
        find_cut(records, "legacy", after_turn="b")


def test_a_turn_that_was_killed_and_followed_by_another_has_ended() -> None:
    records = written(meta(), started("a"), *turn("b"))

    assert find_cut(records, "legacy", after_turn="a").at == place(records, 2)


@pytest.mark.parametrize("where", [{"after_turn": "x"}, {"before_turn": "x"}, {"after_turn": "a", "before_turn": "a"}])
def test_what_cannot_be_cut_is_refused(where: dict[str, Any]) -> None:
    with pytest.raises(BadRequest):
        find_cut(written(meta(), *turn("a")), "legacy", **where)


def test_a_turn_that_was_rolled_back_is_gone() -> None:
    records = written(meta(), *turn("a"), *turn("b"), event("thread_rolled_back", num_turns=1), *turn("c"))

    with pytest.raises(BadRequest, match="no turn b"):
        find_cut(records, "legacy", after_turn="b")
    # The lines of the turn that is gone come along, with the marker that takes it back.
    assert find_cut(records, "legacy", after_turn="a").at == place(records, 12)
    assert find_cut(records, "legacy", before_turn="c").at == place(records, 12)


IDS = ("019f1d8c-e201-7000-8000-00000000000a", "019f1d8c-e201-7000-8000-00000000000b", "019f1d8d-0000-7000-8000-0a")


def test_a_turn_is_named_by_its_id_its_number_or_a_beginning_of_its_id() -> None:
    named = {IDS[1]: 1, "1": 0, "+2": 1, "-1": 2, "-3": 0, "019f1d8d": 2, " 3 ": 2, IDS[0][:-1] + "a": 0}
    assert {wanted: find_turn(IDS, wanted) for wanted in named} == named
    # What an old log calls a turn may look like anything else.
    assert find_turn(["7", "1"], "1") == 1


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        ("4", "the thread has 3 turns, no turn 4"),
        ("-4", "the thread has 3 turns, no turn -4"),
        ("0", "the thread has no turn 0"),
        ("019f", "the thread has no turn 019f"),
        ("", "the thread has no turn "),
        ("019f1d8c", f"019f1d8c is the beginning of 2 turns: {IDS[0]}, {IDS[1]}"),
    ],
)
def test_a_turn_that_is_not_there_or_could_be_several_is_refused(wanted: str, why: str) -> None:
    with pytest.raises(BadRequest) as refused:
        find_turn(IDS, wanted)
    assert str(refused.value).endswith(why)


class Reread:
    """Gives the lines newest first, as often as asked, without those that are passed over, and counts them."""

    def __init__(self, records: list[Record | Skipped], lines: list[bytes]) -> None:
        self._pairs = list(zip(records, lines, strict=True))
        self.read = 0

    def __call__(self, passes: Passes | None) -> Iterator[Record | Skipped]:
        for record, line in reversed(self._pairs):
            self.read += 1
            if passes is None or passes(line, 0, len(line)) is None:
                yield record


def reread(*lines: Line, ordinals: bool) -> tuple[list[Record | Skipped], Reread]:
    records = written(*lines, ordinals=ordinals)
    raw = [
        encode_line(line, timestamp="2026-07-01T12:00:00.000Z", ordinal=number if ordinals else None)
        for number, line in enumerate(lines)
    ]
    return records, Reread(records, raw)


def uncounted(cut: Cut) -> Cut:
    return msgspec.structs.replace(cut, at=Place(None, cut.at.ordinal, cut.at.offset))


STEPS = st.lists(
    st.sampled_from(["turn", "open", "aborted", "failed", "settings", "compacted", "rolled back", "said", "late end"]),
    max_size=8,
)


def steps(names: list[str]) -> list[Line]:
    lines: list[Line] = [meta()]
    for number, name in enumerate(names):
        turn_id = f"019f1d8c-e201-7000-8000-{number:012x}"
        before = f"019f1d8c-e201-7000-8000-{max(0, number - 1):012x}"
        lines += {
            "turn": turn(turn_id),
            "open": [started(turn_id), said("user", "q"), event("user_message", message="q")],
            "aborted": [started(turn_id), said("user", "q"), event("turn_aborted", turn_id=turn_id)],
            "failed": [started(turn_id), completed(turn_id, error={"message": "no"})],
            "settings": [event("thread_settings_applied", thread_settings={})],
            "compacted": [Line("compacted", {"message": ""})],
            "rolled back": [event("thread_rolled_back", num_turns=1)],
            "said": [said("user", "q"), event("user_message", message="q"), event("agent_message", message="a")],
            "late end": [completed(before)],
        }[name]
    return lines


@given(STEPS, st.booleans(), st.sampled_from(["after_turn", "before_turn", None]), st.integers(-9, 9))
def test_reading_from_the_end_finds_the_same_cut(
    names: list[str], ordinals: bool, where: str | None, number: int
) -> None:
    mode = "paginated" if ordinals else "legacy"
    records, back = reread(*steps(names), ordinals=ordinals)
    for wanted in (str(number), f"019f1d8c-e201-7000-8000-{abs(number):012x}"):
        named: dict[str, Any] = {} if where is None else {where: wanted}
        expected = outcome(lambda named=named: find_cut(records, mode, **named))
        found = outcome(lambda named=named: find_cut_back(back, mode, **named))
        assert found == expected or (found is None and not ordinals)


def outcome(find: Callable[[], Cut | None]) -> Cut | str | None:
    try:
        cut = find()
    except BadRequest as refused:
        return str(refused)
    return None if cut is None else uncounted(cut)


@pytest.mark.parametrize("ordinals", [False, True])
@pytest.mark.parametrize(
    "where",
    [{}, {"before_turn": "-2"}, {"after_turn": "-3"}, {"before_turn": f"019f1d8c-e201-7000-8000-{98:012x}"}],
)
def test_a_cut_near_the_end_leaves_the_rest_unread(ordinals: bool, where: dict[str, Any]) -> None:
    records, back = reread(*steps(["turn"] * 100), ordinals=ordinals)
    mode = "paginated" if ordinals else "legacy"
    assert find_cut_back(back, mode, **where) == uncounted(find_cut(records, mode, **where))
    assert back.read < 25
