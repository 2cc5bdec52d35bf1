"""Where a thread is cut for a fork or a revert: between two lines, always at the beginning of a turn."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence

import msgspec

from clew.errors import BadRequest
from clew.history.payload import object_from, text
from clew.history.turn_drafts import ENDS, LEGACY_EVENTS, STARTS, LegacyBuilder
from clew.history.turns import Place, TurnPlace, turn_places
from clew.rollout.envelope import Record, Skipped, payload_kind
from clew.rollout.scan import Passes

__all__ = ["Back", "Cut", "find_cut", "find_cut_back", "find_turn", "not_a_start", "started_turn"]

Back = Callable[[Passes | None], Iterable[Record | Skipped]]
"""Gives the lines of a thread newest first, each time from the end; those that are passed over may be left out."""

SHORTEST_BEGINNING = 6
"""Characters of a turn's id that name it, if no other turn of the thread begins so."""

_NUMBER = re.compile(r"[+-]?(?!0)\d{1,7}")
_WHOLE_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

_HEAD = rb'\{"timestamp":"[^"\\]*",(?:"ordinal":\d+,)?"type":"'
_NO_MARKER = re.compile(
    _HEAD
    + rb'(?:(?!event_msg")\w+"|event_msg","payload":\{"type":"(?!(?:%s)")\w+")' % "|".join((*STARTS, *ENDS)).encode()
).match
not_a_start = re.compile(
    _HEAD + rb'(?:(?!event_msg")\w+"|event_msg","payload":\{"type":"(?!(?:%s)")\w+")' % "|".join(STARTS).encode()
).match
"""Finds, in the bytes of a line, that no turn starts with it."""
_NO_LEGACY_EVENT = re.compile(
    _HEAD
    + rb'(?:(?!event_msg"|compacted")\w+"|event_msg","payload":\{"type":"(?!(?:%s)")\w+")'
    % "|".join(sorted(LEGACY_EVENTS)).encode()
).match


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a thread: everything before `at`.

    A copy takes what stands before `at.offset`. A referencing fork or a revert (paginated) names `at.ordinal` and
    `at.offset` as the end of what it inherits. The offset counts in the file that holds the cut: the newest file of the
    chain whose own lines begin below that ordinal.

    `last_turn_id` is the last turn that is kept; `open_turn_id` the same when it never ended, so that a fork has to say
    that it was interrupted. `left_out` counts the turns behind the cut.
    """

    at: Place
    last_turn_id: str | None = None
    open_turn_id: str | None = None
    left_out: int = 0


def find_turn(ids: Sequence[str], wanted: str, field: str = "turn") -> int:
    """The place among `ids` of the turn that `wanted` names: by its id, by its number (1 is the first turn, -1 the
    last), or by a beginning of its id (6 characters or more) that no other turn has. Raises `BadRequest`."""
    wanted = wanted.strip()
    if wanted in ids:
        return list(ids).index(wanted)
    if _NUMBER.fullmatch(wanted):
        number = int(wanted)
        if abs(number) > len(ids):
            have = "no turns" if not ids else f"{len(ids)} turns" if len(ids) > 1 else "1 turn"
            raise BadRequest(field, f"the thread has {have}, no turn {wanted}")
        return number - 1 if number > 0 else len(ids) + number
    found = [place for place, turn_id in enumerate(ids) if turn_id.startswith(wanted)]
    if len(wanted) < SHORTEST_BEGINNING or not found:
        raise BadRequest(field, f"the thread has no turn {wanted}")
    if len({ids[place] for place in found}) > 1:
        shown = ", ".join(ids[place] for place in found[:5])
        raise BadRequest(field, f"{wanted} is the beginning of {len(found)} turns: {shown}")
    return found[0]


def find_cut(
    records: Iterable[Record | Skipped],
    history_mode: str,
    *,
    after_turn: str | None = None,
    before_turn: str | None = None,
    subagent_start: int | None = None,
) -> Cut:
    """The cut behind `after_turn` (before whatever turn comes next), before `before_turn`, or at the end. Turns are
    named as `find_turn` has it.

    `records` are all lines of the thread, oldest first. Raises `BadRequest` for a turn that is not there (or was rolled
    back), for `after_turn` naming one that has not ended, and when both are given.
    """
    _only_one(after_turn, before_turn)
    places, end = turn_places(records, history_mode, subagent_start=subagent_start)
    return _cut(places, end, after_turn, before_turn)


def find_cut_back(
    back: Back,
    history_mode: str,
    *,
    after_turn: str | None = None,
    before_turn: str | None = None,
    subagent_start: int | None = None,
) -> Cut | None:
    """The same cut, reading from the end and no further back than it takes; None where only all lines can tell.

    A turn is taken to start once, before it ends. Raises as `find_cut`.
    """
    _only_one(after_turn, before_turn)
    paginated = history_mode == "paginated"
    end = _end(back(None), paginated=paginated)
    if end is None:
        return None
    tail = _Numbered(subagent_start) if paginated else _Legacy()
    wanted = before_turn if after_turn is None else after_turn
    known = 0 if after_turn is not None or wanted is None else 1  # how many turns before the wanted one count
    whole = True
    for record in back(tail.passes):
        if isinstance(record, Record) and tail.read(record) and tail.reaches(wanted, known):
            whole = False
            break
    places = tail.places(whole=whole)
    if places is None:
        return None
    cut = _cut(places, end, after_turn, before_turn)
    return None if paginated and cut.at.ordinal is None else cut


def started_turn(record: Record) -> str | None:
    """The turn that starts with this line, if one does and has an id."""
    if record.type != "event_msg" or payload_kind(record.payload) not in STARTS:
        return None
    return text((object_from(record.payload) or {}).get("turn_id"))


def _only_one(after_turn: str | None, before_turn: str | None) -> None:
    if after_turn is not None and before_turn is not None:
        raise BadRequest("before_turn", "name either the last turn to keep or the first to leave out, not both")


def _cut(places: list[TurnPlace], end: Place, after_turn: str | None, before_turn: str | None) -> Cut:
    at, count = end, len(places)
    ids = [place.id for place in places]
    if before_turn is not None:
        count = find_turn(ids, before_turn, "before_turn")
        at = places[count].start
    elif after_turn is not None:
        number = find_turn(ids, after_turn, "after_turn")
        if (count := number + 1) < len(places):
            at = places[count].start
        elif not places[number].ended:
            why = f"turn {ids[number]} has not ended; leave it out to take the thread as it is"
            raise BadRequest("after_turn", why)
    left_out = len(places) - count
    if not count:
        return Cut(at=at, left_out=left_out)
    last = places[count - 1]
    return Cut(at=at, last_turn_id=last.id, open_turn_id=None if last.ended else last.id, left_out=left_out)


def _end(newest_first: Iterable[Record | Skipped], *, paginated: bool) -> Place | None:
    """The place behind the last line that can be read."""
    newer, end = 0, 0
    for line in newest_first:
        if isinstance(line, Skipped):
            continue
        end = end or line.end
        if not paginated:
            return Place(None, None, end)
        if line.ordinal is not None:
            return Place(None, line.ordinal + newer + 1, end)
        newer += 1
    return None


class _Seen:
    """A turn that is met from its end."""

    __slots__ = ("ended", "first", "started")

    def __init__(self) -> None:
        self.first = Place(None, None, 0)
        self.started = False
        self.ended = False


class _Numbered:
    """The last turns of a paginated thread, from their markers."""

    passes = staticmethod(_NO_MARKER)

    def __init__(self, start: int | None) -> None:
        self._start = start
        self._seen: dict[str, _Seen] = {}
        self._started: list[str] = []
        self._waiting: set[str] = set()

    def read(self, record: Record) -> bool:
        """Take a line; tells whether a turn began with it."""
        if record.type != "event_msg" or payload_kind(record.payload) not in (*STARTS, *ENDS):
            return False
        if self._start is not None and record.ordinal is not None and record.ordinal < self._start:
            return False
        event = object_from(record.payload)
        turn_id = text(event.get("turn_id")) if event else None
        if event is None or turn_id is None:
            return False
        seen = self._seen.pop(turn_id, None) or _Seen()
        self._seen[turn_id] = seen  # the order is that of first markers, newest first
        seen.first = Place(None, record.ordinal, record.start)
        if event.get("type") not in STARTS:
            seen.ended = True
            if not seen.started:
                self._waiting.add(turn_id)
            return False
        self._waiting.discard(turn_id)
        if not seen.started:
            seen.started = True
            self._started.append(turn_id)
        return True

    def reaches(self, wanted: str | None, known: int) -> bool:
        return not self._waiting and _reaches(self._started, wanted, known)

    def places(self, *, whole: bool) -> list[TurnPlace] | None:
        return [TurnPlace(turn_id, seen.first, seen.ended) for turn_id, seen in reversed(self._seen.items())]


class _Legacy:
    """The last turns of a legacy thread, as far as all that they are made of stands behind their start."""

    passes = staticmethod(_NO_LEGACY_EVENT)

    def __init__(self) -> None:
        self._lines: list[Record] = []
        self._started: list[str] = []
        self._puzzling = False

    def read(self, record: Record) -> bool:
        """Take a line; tells whether a turn began with it."""
        if record.type == "compacted":
            self._lines.append(record)
            return False
        kind = payload_kind(record.payload) if record.type == "event_msg" else None
        if kind not in LEGACY_EVENTS:
            return False
        self._lines.append(record)
        if kind == "thread_rolled_back":
            self._puzzling = True
        if kind not in STARTS:
            return False
        turn_id = text((object_from(record.payload) or {}).get("turn_id"))
        if turn_id is None or turn_id in self._started:
            self._puzzling = True
        self._started.append(turn_id or "")
        return True

    def reaches(self, wanted: str | None, known: int) -> bool:
        return self._puzzling or _reaches(self._started, wanted, known)

    def places(self, *, whole: bool) -> list[TurnPlace] | None:
        if self._puzzling or whole:
            # Old logs tell their turns by more than this.
            return None
        builder = LegacyBuilder()
        starts: list[Place] = []
        for record in reversed(self._lines):
            if payload_kind(record.payload) in ENDS and self._another(record):
                return None
            before = builder.open
            builder.read(record)
            if builder.open is not None and builder.open is not before:
                if not builder.open.explicit:
                    return None
                starts.append(Place(None, None, record.start))
        drafts = builder.finish()
        if len(drafts) != len(starts):
            return None
        return [
            TurnPlace(draft.id, start, draft.status != "inProgress")
            for draft, start in zip(drafts, starts, strict=True)
        ]

    def _another(self, record: Record) -> bool:
        """Whether it ends a turn that was not read."""
        turn_id = text((object_from(record.payload) or {}).get("turn_id"))
        return turn_id is not None and turn_id not in self._started


def _reaches(started: list[str], wanted: str | None, known: int) -> bool:
    """Whether the turns that started, newest first, reach back to the wanted one and `known` more."""
    if wanted is None:
        return len(started) > known
    if _NUMBER.fullmatch(wanted):
        return wanted.startswith("-") and len(started) >= known - int(wanted)
    if _WHOLE_ID.fullmatch(wanted):
        return wanted in started[: len(started) - known]
    return False
