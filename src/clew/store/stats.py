"""What was spent: tokens and turns of all threads, each counted once, put together by day, model, project, …"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

import msgspec

from clew.config.prices import Price
from clew.errors import BadRequest
from clew.history.usage import NOTHING, Tokens, TurnUsage, UsageTally, count_once
from clew.rollout import Home, RolloutFile
from clew.store.facts import FileFacts, Known, facts_of
from clew.store.queries import ShowProgress, Stop

__all__ = [
    "STATS_BY",
    "DaySpending",
    "Spending",
    "Stats",
    "StatsBy",
    "StatsQuery",
    "StatsRow",
    "stats_of",
    "with_names",
]

StatsBy = Literal["thread", "day", "week", "month", "model", "project", "source", "provider"]

STATS_BY: tuple[StatsBy, ...] = ("thread", "day", "week", "month", "model", "project", "source", "provider")

_IN_TIME = frozenset({"day", "week", "month"})
_QUARTER = 900  # seconds: no zone's offset is finer
_DEEPEST = 64


class StatsQuery(msgspec.Struct, frozen=True, kw_only=True):
    """What to count, and by what.

    `since` and `until` bound the moment a turn began (RFC 3339); `cwd` keeps the turns that worked in this folder or
    below it; `archived` as in a list (None: all threads); `thread_id`: only this thread's own turns. `limit`: as many
    rows, what is cut off comes together in `others`; 0: all. Days are those of the machine's zone, or with `utc` those
    of UTC. `prices` by model; a model without one costs nothing that is known.
    """

    by: StatsBy = "day"
    since: str | None = None
    until: str | None = None
    cwd: str | None = None
    archived: bool | None = False
    thread_id: str | None = None
    limit: int = 0
    utc: bool = False
    prices: Mapping[str, Price] = {}


class Spending(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens. `cached_input` and `cache_write_input` are parts of `input`, `reasoning_output` is one of `output`;
    `total` is what the provider says."""

    input: int = 0
    cached_input: int = 0
    cache_write_input: int = 0
    output: int = 0
    reasoning_output: int = 0
    total: int = 0


class StatsRow(msgspec.Struct, frozen=True, kw_only=True):
    """One line of the table. `key` is a thread's id, a day `2026-07-01`, a week `2026-W27`, a month `2026-07`, or the
    name of what was asked for (None: not recorded); `name` is a thread's title. `first` and `last`: when its first and
    its last turn began (RFC 3339 UTC). `cost` is None where no model in it has a price; `unpriced` counts the tokens of
    those that have none."""

    key: str | None
    turns: int
    threads: int
    tokens: Spending
    name: str | None = None
    first: str | None = None
    last: str | None = None
    cost: float | None = None
    unpriced: int = 0


class DaySpending(msgspec.Struct, frozen=True, kw_only=True):
    """One day of all that was counted, for a plot."""

    day: str
    turns: int
    tokens: int


class Stats(msgspec.Struct, frozen=True, kw_only=True):
    """Rows: periods oldest first, everything else by tokens, most first. `days` holds the days on which something was
    spent, oldest first. `archived_left_out`: turns that were not counted because their threads are archived. `notices`
    say what could not be read."""

    by: StatsBy
    rows: tuple[StatsRow, ...]
    total: StatsRow
    others: StatsRow | None = None
    days: tuple[DaySpending, ...] = ()
    archived_left_out: int = 0
    notices: tuple[str, ...] = ()


class _Book(NamedTuple):
    """What is needed of a file."""

    thread_id: str
    source: str | None
    usage: UsageTally


class _Sum:
    """What comes together in one row."""

    __slots__ = ("by_model", "first", "last", "threads", "turns")

    def __init__(self) -> None:
        self.turns = 0
        self.threads: set[str] = set()
        self.by_model: dict[str, Tokens] = {}
        self.first = self.last = 0

    def add(self, thread_id: str, model: str, turn: TurnUsage) -> None:
        self.turns += turn.is_turn
        self.threads.add(thread_id)
        self.by_model[model] = self.by_model.get(model, NOTHING) + turn.tokens
        if turn.started:
            self.first = min(self.first or turn.started, turn.started)
            self.last = max(self.last, turn.started)

    def merge(self, other: _Sum) -> None:
        self.turns += other.turns
        self.threads |= other.threads
        for model, tokens in other.by_model.items():
            self.by_model[model] = self.by_model.get(model, NOTHING) + tokens
        self.first = min(filter(None, (self.first, other.first)), default=0)
        self.last = max(self.last, other.last)

    @property
    def tokens(self) -> Tokens:
        found = NOTHING
        for tokens in self.by_model.values():
            found += tokens
        return found

    def row(self, key: str | None, prices: Mapping[str, Price]) -> StatsRow:
        tokens = self.tokens
        priced = [_cost(prices[model], spent) for model, spent in self.by_model.items() if model in prices]
        return StatsRow(
            key=key,
            turns=self.turns,
            threads=len(self.threads),
            tokens=Spending(
                input=tokens.input,
                cached_input=tokens.cached,
                cache_write_input=tokens.written,
                output=tokens.output,
                reasoning_output=tokens.reasoning,
                total=tokens.total,
            ),
            first=_stamp(self.first),
            last=_stamp(self.last),
            cost=sum(priced) if priced else None,
            unpriced=sum(spent.total for model, spent in self.by_model.items() if model not in prices),
        )


def stats_of(
    home: Home,
    query: StatsQuery,
    *,
    known: Known | None = None,
    stop: Stop | None = None,
    progress: ShowProgress | None = None,
) -> Stats:
    """The answer to a query over a home. Reads the files whose digests nobody keeps. Raises `BadRequest` for a time
    that is none. With `stop`, what is answered after it told so is of no use."""
    since, until = _bound(query.since, "since"), _bound(query.until, "until")
    files: list[RolloutFile] = []
    archived: dict[str, bool] = {}
    for thread in home.threads():
        archived[thread.thread_id] = thread.archived
        files += (*thread.segments, *thread.doubles)
    notices: list[str] = []
    books: list[_Book] = []
    for fact in facts_of(home, files, known=known, stop=stop, progress=progress):
        # The rest of a digest is let go: of a large home all of them together would be too much.
        books.append(_Book(fact.file.thread_id, _source(fact), fact.digest.usage))
        if fact.problem is not None:
            notices.append(f"{fact.file.plain_path.name}: {fact.problem}")
    calendar = _Calendar(utc=query.utc)
    projects = _Projects(home)
    sums: dict[str | None, _Sum] = {}
    total = _Sum()
    days: dict[str, list[int]] = {}
    left_out = 0
    # Everything is counted once before anything is left out: the copy of an archived thread's turn is no new turn.
    for place, turn in count_once([book.usage for book in books]):
        book = books[place]
        names = book.usage.names
        thread_id = book.thread_id
        if query.thread_id is not None and thread_id != query.thread_id:
            continue
        if (since is not None and turn.started < since) or (until is not None and turn.started >= until):
            continue
        cwd = names[turn.cwd]
        if query.cwd is not None and not _below(cwd, query.cwd):
            continue
        if query.archived is not None and archived[thread_id] != query.archived:
            left_out += turn.is_turn and archived[thread_id]
            continue
        model = names[turn.model]
        match query.by:
            case "thread":
                key = thread_id
            case "day":
                key = calendar.day(turn.started)
            case "week":
                key = calendar.week(turn.started)
            case "month":
                key = calendar.month(turn.started)
            case "model":
                key = model
            case "project":
                key = projects.of(cwd)
            case "source":
                key = book.source
            case "provider":
                key = names[turn.provider]
        row = sums.get(key or None)
        if row is None:
            row = sums[key or None] = _Sum()
        row.add(thread_id, model, turn)
        total.add(thread_id, model, turn)
        if (day := calendar.day(turn.started)) is not None:
            spent = days.setdefault(day, [0, 0])
            spent[0] += turn.is_turn
            spent[1] += turn.tokens.total
    order = sorted(sums, key=_in_time if query.by in _IN_TIME else lambda key: _most_first(key, sums))
    shown, cut = _cut(order, query)
    others = _Sum()
    for key in cut:
        others.merge(sums[key])
    return Stats(
        by=query.by,
        rows=tuple(sums[key].row(key, query.prices) for key in shown),
        total=total.row(None, query.prices),
        others=others.row(None, query.prices) if cut else None,
        days=tuple(DaySpending(day=day, turns=days[day][0], tokens=days[day][1]) for day in sorted(days)),
        archived_left_out=left_out,
        notices=tuple(notices),
    )


def _cost(price: Price, tokens: Tokens) -> float:
    cached = min(tokens.cached, tokens.input)
    for_cached = price.input if price.cached is None else price.cached
    return ((tokens.input - cached) * price.input + cached * for_cached + tokens.output * price.output) / 1e6


def _in_time(key: str | None) -> str:
    return key or ""


def _most_first(key: str | None, sums: Mapping[str | None, _Sum]) -> tuple[int, int, str]:
    return -sums[key].tokens.total, -sums[key].turns, key or ""


def _cut(order: Sequence[str | None], query: StatsQuery) -> tuple[Sequence[str | None], Sequence[str | None]]:
    if not query.limit or len(order) <= query.limit:
        return order, ()
    if query.by in _IN_TIME:
        return order[-query.limit :], order[: -query.limit]
    return order[: query.limit], order[query.limit :]


def _source(fact: FileFacts) -> str | None:
    return fact.digest.meta.source if fact.digest.meta is not None else None


def _below(cwd: str, folder: str) -> bool:
    return bool(cwd) and PurePosixPath(cwd).is_relative_to(folder)


def _stamp(seconds: int) -> str | None:
    if not seconds:
        return None
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
    except (ValueError, OverflowError, OSError):
        return None


def _bound(text: str | None, field: str) -> float | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise BadRequest(field, f"{text!r} is no RFC 3339 time") from None
    return (moment if moment.tzinfo is not None else moment.astimezone()).timestamp()


class _Calendar:
    """Days of moments. Asking the zone is slow; within a quarter of an hour it does not change its mind."""

    def __init__(self, *, utc: bool) -> None:
        self._utc = utc
        self._dates: dict[int, date | None] = {}

    def _date(self, seconds: int) -> date | None:
        quarter = seconds // _QUARTER
        if quarter not in self._dates:
            self._dates[quarter] = self._looked_up(seconds) if seconds else None
        return self._dates[quarter]

    def _looked_up(self, seconds: int) -> date | None:
        try:
            return datetime.fromtimestamp(seconds, UTC if self._utc else None).date()
        except (ValueError, OverflowError, OSError):
            return None

    def day(self, seconds: int) -> str | None:
        found = self._date(seconds)
        return None if found is None else found.isoformat()

    def week(self, seconds: int) -> str | None:
        found = self._date(seconds)
        return None if found is None else "{}-W{:02}".format(*found.isocalendar()[:2])

    def month(self, seconds: int) -> str | None:
        found = self._date(seconds)
        return None if found is None else f"{found:%Y-%m}"


class _Projects:
    """The repository that a folder lies in, where it is still there; else the folder itself."""

    def __init__(self, home: Home) -> None:
        self._fs = home.fs
        self._known: dict[str, str] = {}

    def of(self, cwd: str) -> str:
        found = self._known.get(cwd)
        if found is None:
            found = self._known[cwd] = self._root(cwd) if cwd.startswith("/") else cwd
        return found

    def _root(self, cwd: str) -> str:
        folder = Path(cwd)
        for above in (folder, *folder.parents)[:_DEEPEST]:
            try:
                self._fs.stat(above / ".git")
            except (OSError, ValueError):
                continue
            return str(above)
        return cwd


def with_names(stats: Stats, title: Callable[[str], str | None]) -> Stats:
    """The same with the titles of its threads, which are asked for by id."""
    if stats.by != "thread":
        return stats
    rows = tuple(
        msgspec.structs.replace(row, name=title(row.key)) if row.key is not None else row for row in stats.rows
    )
    return msgspec.structs.replace(stats, rows=rows)
