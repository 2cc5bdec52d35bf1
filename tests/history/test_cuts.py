from __future__ import annotations

from typing import Any

import pytest
from written import completed, context, event, meta, said, started, written

from clew.errors import BadRequest
from clew.history import Cut, Place, find_cut
from clew.rollout.envelope import Line, Record, Skipped


def turn(name: str) -> list[Line]:
    return [started(name), context(name), said("user", name), event("user_message", message=name), completed(name)]


def place(records: list[Record | Skipped], lines: int, *, ordinals: bool = False) -> Place:
    if lines == len(records):
        return Place(lines, lines if ordinals else None, records[-1].end)
    return Place(lines, lines if ordinals else None, records[lines].start)


@pytest.mark.parametrize("ordinals", [False, True])
@pytest.mark.parametrize(
    ("where", "lines", "last"),
    [
        ({}, 17, "c"),
        ({"after_turn": "a"}, 6, "a"),
        ({"after_turn": "c"}, 17, "c"),
        ({"before_turn": "a"}, 1, None),
        ({"before_turn": "c"}, 11, "b"),
    ],
)
def test_a_cut_falls_at_the_beginning_of_a_turn(
    ordinals: bool, where: dict[str, Any], lines: int, last: str | None
) -> None:
    mode = "paginated" if ordinals else "legacy"
    settings = event("thread_settings_applied", thread_settings={})
    records = written(meta(history_mode=mode), *turn("a"), *turn("b"), *turn("c"), settings, ordinals=ordinals)

    assert find_cut(records, mode, **where) == Cut(at=place(records, lines, ordinals=ordinals), last_turn_id=last)


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
