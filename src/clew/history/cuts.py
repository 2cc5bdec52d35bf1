"""Where a thread is cut for a fork or a revert: between two lines, always at the beginning of a turn."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from clew.errors import BadRequest
from clew.history.turns import Place, TurnPlace, turn_places
from clew.rollout.envelope import Record, Skipped

__all__ = ["Cut", "find_cut"]


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a thread: everything before `at`.

    A copying fork (legacy) takes the first `at.lines` lines. A referencing fork or a revert (paginated) names
    `at.ordinal` and `at.offset` as the end of what it inherits; the offset counts in the file that holds the cut: the
    newest file of the chain whose own lines begin below that ordinal.

    `last_turn_id` is the last turn that is kept; `open_turn_id` the same when it never ended, so that a copy has to say
    that it was interrupted.
    """

    at: Place
    last_turn_id: str | None = None
    open_turn_id: str | None = None


def find_cut(
    records: Iterable[Record | Skipped],
    history_mode: str,
    *,
    after_turn: str | None = None,
    before_turn: str | None = None,
    subagent_start: int | None = None,
) -> Cut:
    """The cut behind `after_turn` (before whatever turn comes next), before `before_turn`, or at the end.

    `records` are all lines of the thread, oldest first. Raises `BadRequest` for a turn that is not there (or was rolled
    back), for `after_turn` naming one that has not ended, and when both are given.
    """
    if after_turn is not None and before_turn is not None:
        raise BadRequest("before_turn", "name either the last turn to keep or the first to leave out, not both")
    places, end = turn_places(records, history_mode, subagent_start=subagent_start)
    if before_turn is not None:
        number = _number(places, before_turn, "before_turn")
        return _cut(places[:number], places[number].start)
    if after_turn is not None:
        number = _number(places, after_turn, "after_turn")
        last = number + 1 == len(places)
        if last and not places[number].ended:
            raise BadRequest("after_turn", f"turn {after_turn} has not ended; leave it out to take the thread as it is")
        return _cut(places[: number + 1], end if last else places[number + 1].start)
    return _cut(places, end)


def _number(places: list[TurnPlace], turn_id: str, field: str) -> int:
    for number, place in enumerate(places):
        if place.id == turn_id:
            return number
    raise BadRequest(field, f"the thread has no turn {turn_id}")


def _cut(kept: list[TurnPlace], at: Place) -> Cut:
    if not kept:
        return Cut(at=at)
    last = kept[-1]
    return Cut(at=at, last_turn_id=last.id, open_turn_id=None if last.ended else last.id)
