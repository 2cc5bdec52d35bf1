"""Where the lines of each turn are, so that any page of turns is read without the rest of the log.

An index over a log that only grows: it is extended from where it stopped, also by another process. What it keeps of a
turn are the places of its lines and, for a legacy one, two counters; a turn that the lines cannot tell by themselves
(one that an event reached after its end) is kept whole.
"""

from __future__ import annotations

import re
import sys
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import msgspec

from clew.events import TurnError
from clew.history.payload import object_from, text
from clew.history.turn_drafts import LEGACY_EVENTS, PAGINATED_EVENTS, Draft, LegacyBuilder, Projection, Turn, TurnStatus
from clew.history.turns import TurnsSlice
from clew.rollout.envelope import Record, Skipped, payload_kind
from clew.rollout.offsets import Mark
from clew.rollout.scan import UNREADABLE, Passes

__all__ = ["TurnLog", "TurnOffsets"]

_STORED_AS = 1
"""Another number for every change of what is stored, or of what is made of lines."""

_HEAD = rb'\{"timestamp":"[^"\\]*",(?:"ordinal":\d+,)?"type":"'
_OTHER_EVENT = rb'event_msg","payload":\{"type":"(?!(?:%s)")\w+"'
_NOT_PAGINATED = re.compile(
    _HEAD + rb'(?:(?!event_msg")\w+"|' + _OTHER_EVENT % "|".join(sorted(PAGINATED_EVENTS)).encode() + rb")"
).match
# Of the items only what users are told can show something: a hook's prompt.
_NOT_LEGACY = re.compile(
    _HEAD
    + rb'(?:response_item","payload":\{"type":"(?:(?!message")\w+"|message",(?:"id":"[^"\\]*",)?"role":"(?!user")\w+")|'
    + _OTHER_EVENT % "|".join(sorted(LEGACY_EVENTS)).encode()
    + rb'|(?!response_item"|event_msg"|compacted")\w+")'
).match


class TurnLog(Protocol):
    """What the index asks of a log; `clew.rollout.ThreadLog` is one."""

    def since(self, mark: Mark, *, passes: Passes | None = None) -> Iterator[tuple[int, Record | Skipped]]: ...

    def at(self, number: int, places: Sequence[tuple[int, int]]) -> Iterator[Record | Skipped]: ...

    def settled(self, mark: Mark) -> bool: ...

    def before(self, mark: Mark) -> int: ...

    def seal(self, mark: Mark) -> bytes | None: ...


class _Ref(msgspec.Struct):
    type: str | None = None
    turn_id: str | None = None


_ref_decoder = msgspec.json.Decoder(_Ref)


_StoredPlaces = list[tuple[int, bytes]]
"""By file: pairs of start and end, eight bytes each, little end first."""


class _StoredDraft(msgspec.Struct, array_like=True):
    id: str
    line: int
    explicit: bool
    compacted: bool
    status: TurnStatus
    items: list[dict[str, Any]]
    started_at: int | None
    completed_at: int | None
    duration_ms: int | None
    error: TurnError | None
    count: int
    before: tuple[int, int]
    whole: bool
    emptied: bool
    places: _StoredPlaces


class _StoredLegacy(msgspec.Struct, array_like=True, tag="legacy"):
    closed: list[_StoredDraft]
    open: _StoredDraft | None
    counted: tuple[int, int]
    events: bool
    exact: bool
    passed: bool


class _StoredPaginated(msgspec.Struct, array_like=True, tag="paginated"):
    start: int | None
    places: list[tuple[str, _StoredPlaces]]
    order: list[str]


class _Stored(msgspec.Struct, array_like=True):
    """`seal` is the log's, for the mark."""

    version: int
    seal: bytes
    mark: tuple[int, int]
    turns: _StoredLegacy | _StoredPaginated


_stored_encoder = msgspec.msgpack.Encoder()
_stored_decoder = msgspec.msgpack.Decoder(_Stored)


class _Places:
    """Lines of a turn: pairs of start and end, by file."""

    __slots__ = ("_files",)

    def __init__(self) -> None:
        self._files: list[tuple[int, array[int]]] = []

    def add(self, file: int, record: Record) -> None:
        if not self._files or self._files[-1][0] != file:
            self._files.append((file, array("Q")))
        self._files[-1][1].extend((record.start, record.end))

    def stored(self) -> _StoredPlaces:
        return [(file, _little(places).tobytes()) for file, places in self._files]

    @classmethod
    def restored(cls, stored: _StoredPlaces) -> _Places:
        """Raises `ValueError` for what are no places."""
        made = cls()
        for file, data in stored:
            if not data or len(data) % 16:
                raise ValueError("places are pairs")
            places = array("Q")
            places.frombytes(data)
            made._files.append((file, _little(places)))
        if not made._files:
            raise ValueError("a turn without lines")
        return made

    def first(self) -> Mark:
        file, places = self._files[0]
        return Mark(file, places[0])

    def by_file(self) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        for file, places in self._files:
            numbers = iter(places)
            yield file, list(zip(numbers, numbers, strict=True))


def _little(numbers: array[int]) -> array[int]:
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers


def _read_again(log: TurnLog, wanted: Sequence[_Places]) -> list[list[Record]]:
    """The lines of some turns, each turn's oldest first. Those that lie together are read together."""
    found: list[list[Record]] = [[] for _ in wanted]
    files: dict[int, list[tuple[int, int]]] = {}
    owners: dict[tuple[int, int], int] = {}
    for turn, places in enumerate(wanted):
        for file, spans in places.by_file():
            files.setdefault(file, []).extend(spans)
            owners.update(((file, start), turn) for start, _ in spans)
    for file in sorted(files):
        for record in log.at(file, sorted(files[file])):
            if isinstance(record, Record):
                found[owners[file, record.start]].append(record)
    return found


class _Again(Exception):
    """What was read so far does not do: read everything again, this time without passing over lines."""


class TurnOffsets:
    """The turns of one thread and where their lines are. `history_mode` and `subagent_start` as for `turns`.

    Not for several threads at once. `extend` brings it up to what the log is now; `page` needs that.
    """

    def __init__(self, history_mode: str, *, subagent_start: int | None = None) -> None:
        self._turns: _LegacyTurns | _PaginatedTurns
        self._turns = _PaginatedTurns(subagent_start) if history_mode == "paginated" else _LegacyTurns()
        self._mark = Mark()
        self._unread = False

    @classmethod
    def from_bytes(
        cls, data: bytes, log: TurnLog, history_mode: str, *, subagent_start: int | None = None
    ) -> TurnOffsets | None:
        """What `to_bytes` gave, to be extended; None where the log does not begin any more with what it was made from,
        or `data` is anything else."""
        made = cls(history_mode, subagent_start=subagent_start)
        try:
            stored = _stored_decoder.decode(data)
            if stored.version != _STORED_AS or min(stored.mark) < 0:
                return None
            turns = made._turns.restored(stored.turns)
        except (msgspec.DecodeError, ValueError, RecursionError):
            return None
        mark = Mark(*stored.mark)
        if turns is None or log.seal(mark) != stored.seal:
            return None
        made._turns, made._mark = turns, mark
        return made

    def to_bytes(self, log: TurnLog) -> bytes | None:
        """What is known of the log, for another process. None where that would not be known again, or not be all:
        a part of the log could not be read."""
        seal = None if self._unread else log.seal(self._mark)
        if seal is None:
            return None
        try:
            return _stored_encoder.encode(
                _Stored(_STORED_AS, seal, (self._mark.file, self._mark.offset), self._turns.stored())
            )
        except (OverflowError, ValueError, RecursionError):
            return None  # numbers and texts that JSON can hold, and this cannot

    def covered(self, log: TurnLog) -> int:
        """Bytes of the log that need not be read again to extend it."""
        return log.before(self._mark)

    def extend(self, log: TurnLog) -> None:
        """Read what was added to the log since the last time."""
        if not log.settled(self._mark):
            # The last line had no end, and may be another one by now.
            self._turns, self._mark, self._unread = self._turns.anew(), Mark(), False
        try:
            self._read(log)
        except _Again:
            self._turns, self._mark = self._turns.anew(exact=True), Mark()
            self._read(log)

    def ids(self) -> list[str]:
        """The ids of all turns, oldest first."""
        return self._turns.ids()

    def mark(self, number: int) -> Mark:
        """The place of the first line that tells of a turn (counted from 0)."""
        return self._turns.first(number)

    def _read(self, log: TurnLog) -> None:
        for file, record in log.since(self._mark, passes=self._turns.passes):
            if isinstance(record, Record):
                self._turns.read(file, record)
                self._mark = Mark(file, record.end)
            elif UNREADABLE in record.why:
                self._unread = True

    def page(
        self, log: TurnLog, *, limit: int, after: str | None = None, newest_first: bool = False, live: str | None = None
    ) -> TurnsSlice | None:
        """`limit` turns behind the turn `after` (None: from the beginning), in the order asked for; None for an unknown
        `after`. `live` as for `turns`."""
        ids = self._turns.ids()
        step = -1 if newest_first else 1
        first = len(ids) - 1 if newest_first else 0
        if after is not None:
            place = next((n for n in range(len(ids) - 1, -1, -1) if ids[n] == after), None)
            if place is None:
                return None
            first = place + step
        chosen = range(first, len(ids) if step > 0 else -1, step)
        found = tuple(self._turns.shown(log, chosen[:limit], live))
        self._turns.settle()
        return TurnsSlice(found, more=len(chosen) > limit)


class _LegacyTurns:
    def __init__(self, *, exact: bool = False) -> None:
        self._builder = LegacyBuilder()
        self._exact = exact  # ids are made of line numbers here, so that every line is looked at
        self._passed = False
        self._filled: list[Draft] = []  # those whose items are in memory
        self._places: dict[Draft, _Places] = {}

    def anew(self, *, exact: bool = False) -> _LegacyTurns:
        return _LegacyTurns(exact=exact or self._exact)

    def stored(self) -> _StoredLegacy:
        builder = self._builder
        return _StoredLegacy(
            closed=[self._stored(draft) for draft in builder.closed],
            open=None if builder.open is None else self._stored(builder.open),
            counted=builder.counted,
            events=builder.told_by_events,
            exact=self._exact,
            passed=self._passed,
        )

    def _stored(self, draft: Draft) -> _StoredDraft:
        members = {name: getattr(draft, name) for name in _StoredDraft.__struct_fields__[:-1]}
        return _StoredDraft(**members, places=self._places[draft].stored())

    @staticmethod
    def restored(stored: _StoredLegacy | _StoredPaginated) -> _LegacyTurns | None:
        if not isinstance(stored, _StoredLegacy):
            return None
        made = _LegacyTurns(exact=stored.exact)
        closed = [made._restored(draft) for draft in stored.closed]
        open_ = None if stored.open is None else made._restored(stored.open)
        made._builder = LegacyBuilder.resumed(closed, open_, stored.counted, events=stored.events)
        made._passed = stored.passed
        return made

    def _restored(self, stored: _StoredDraft) -> Draft:
        names = _StoredDraft.__struct_fields__[:-1]
        draft = Draft(**{name: getattr(stored, name) for name in names})
        self._places[draft] = _Places.restored(stored.places)
        if draft.whole and not draft.emptied:
            self._filled.append(draft)
        return draft

    def passes(self, data: bytes, start: int, end: int) -> object:
        if self._exact or not self._builder.told_by_events:
            return None
        found = _NOT_LEGACY(data, start, end)
        self._passed = self._passed or found is not None
        return found

    def read(self, file: int, record: Record) -> None:
        builder = self._builder
        before, counted, told = builder.open, builder.counted, builder.told_by_events
        builder.read(record)
        draft, now = builder.touched, builder.open
        if told != builder.told_by_events:
            # What was inferred so far does not count.
            self._filled, self._places, counted = [], {}, (counted[0], 0)
        if draft is None:
            return
        if draft.emptied:
            raise _Again
        places = self._places.get(draft)
        if places is None:
            if self._passed and draft.id == f"rollout-{builder.counted[0]}":
                raise _Again
            places = self._places[draft] = _Places()
            self._filled.append(draft)
            draft.before = counted
        elif draft is not before and draft is not now:
            draft.whole = False  # it was over already
        if before is not None and before is now and draft is not before:
            before.whole = False  # another one may have taken its numbers
        places.add(file, record)

    def ids(self) -> list[str]:
        return [draft.id for draft in self._builder.drafts()]

    def first(self, number: int) -> Mark:
        return self._places[self._builder.drafts()[number]].first()

    def shown(self, log: TurnLog, chosen: Sequence[int], live: str | None) -> Iterable[Turn]:
        every = self._builder.drafts()
        drafts = [every[place] for place in chosen]
        emptied = [draft for draft in drafts if draft.emptied]
        lines = iter(_read_again(log, [self._places[draft] for draft in emptied]))
        for draft in drafts:
            yield (self._again(draft, next(lines)) if draft.emptied else draft).turn(live)

    def _again(self, draft: Draft, lines: Iterable[Record]) -> Draft:
        builder = LegacyBuilder(draft.before, events=self._builder.told_by_events)
        for record in lines:
            builder.read(record)
        found = builder.drafts()
        return found[0] if found else Draft(draft.id, status=draft.status)

    def settle(self) -> None:
        """Let go of what can be read again."""
        kept: list[Draft] = []
        for draft in self._filled:
            if draft.whole and draft is not self._builder.open:
                draft.empty()
            elif draft.whole:
                kept.append(draft)
        self._filled = kept


class _PaginatedTurns:
    def __init__(self, start: int | None) -> None:
        self._start = start
        self._places: dict[str, _Places] = {}
        self._order: dict[str, None] = {}

    def anew(self, *, exact: bool = False) -> _PaginatedTurns:
        return _PaginatedTurns(self._start)

    def stored(self) -> _StoredPaginated:
        places = [(turn_id, places.stored()) for turn_id, places in self._places.items()]
        return _StoredPaginated(start=self._start, places=places, order=list(self._order))

    def restored(self, stored: _StoredLegacy | _StoredPaginated) -> _PaginatedTurns | None:
        if not isinstance(stored, _StoredPaginated) or stored.start != self._start:
            return None
        made = _PaginatedTurns(self._start)
        made._places = {turn_id: _Places.restored(places) for turn_id, places in stored.places}
        made._order = dict.fromkeys(stored.order)
        return made if made._order.keys() <= made._places.keys() else None

    def passes(self, data: bytes, start: int, end: int) -> object:
        return _NOT_PAGINATED(data, start, end)

    def read(self, file: int, record: Record) -> None:
        if record.type != "event_msg" or payload_kind(record.payload) not in PAGINATED_EVENTS:
            return
        if self._start is not None and record.ordinal is not None and record.ordinal < self._start:
            return
        kind, turn_id = _ref(record)
        if turn_id is None:
            return
        places = self._places.get(turn_id)
        if places is None:
            places = self._places[turn_id] = _Places()
        places.add(file, record)
        if kind != "item_completed":
            self._order[turn_id] = None

    def ids(self) -> list[str]:
        return list(self._order)

    def first(self, number: int) -> Mark:
        return self._places[self.ids()[number]].first()

    def shown(self, log: TurnLog, chosen: Sequence[int], live: str | None) -> Iterable[Turn]:
        ids = self.ids()
        for lines in _read_again(log, [self._places[ids[place]] for place in chosen]):
            projection = Projection(self._start)
            for record in lines:
                projection.read(record)
            for draft in projection.ordered()[:1]:
                yield draft.turn(live)

    def settle(self) -> None:
        """Nothing is kept that could be let go."""


def _ref(record: Record) -> tuple[str | None, str | None]:
    try:
        found = _ref_decoder.decode(record.payload)
    except msgspec.ValidationError:
        event = object_from(record.payload) or {}
        return text(event.get("type")), text(event.get("turn_id"))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None, None
    return found.type, found.turn_id
