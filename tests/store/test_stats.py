"""What threads spent, put together: each turn once, in the right row."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clew.config.prices import Price
from clew.errors import BadRequest
from clew.rollout import Home, RealFileSystem, RolloutFile
from clew.store.facts import read_facts
from clew.store.stats import STATS_BY, DaySpending, Spending, Stats, StatsBy, StatsQuery, StatsRow, stats_of
from clew.testing import ThreadBuilder
from clew.testing.builders import BEGINNING
from clew.testing.homes import write_every_shape

DAY = 86_400


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(RealFileSystem(), tmp_path / "codex")


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine far east of Greenwich."""
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def found(stats: Stats) -> dict[str | None, tuple[int, int]]:
    return {row.key: (row.turns, row.tokens.total) for row in stats.rows}


def of(home: Home, by: StatsBy = "thread", *, utc: bool = True, limit: int = 0) -> Stats:
    return stats_of(home, StatsQuery(by=by, archived=None, utc=utc, limit=limit))


def test_an_empty_home_spent_nothing(home: Home) -> None:
    assert stats_of(home, StatsQuery()) == Stats(
        by="day", rows=(), total=StatsRow(key=None, turns=0, threads=0, tokens=Spending())
    )


def test_a_row_tells_turns_threads_tokens_and_times(home: Home) -> None:
    thread = ThreadBuilder("0.142").turn("First?", "One.").turn("Second?", "Two.")
    thread.write(home)

    stats = of(home, "day")

    tokens = Spending(input=160, output=80, total=240)
    row = StatsRow(
        key="2026-07-01",
        turns=2,
        threads=1,
        tokens=tokens,
        first="2026-07-01T12:00:00Z",
        last="2026-07-01T12:00:01Z",
        unpriced=240,
    )
    total = StatsRow(key=None, turns=2, threads=1, tokens=tokens, first=row.first, last=row.last, unpriced=240)
    assert stats == Stats(
        by="day", rows=(row,), total=total, days=(DaySpending(day="2026-07-01", turns=2, tokens=240),)
    )


def test_each_thread_gets_what_it_spent_itself(home: Home) -> None:
    source = ThreadBuilder("0.142").turn("First?", "One.").turn("Second?", "Two.")
    child = source.fork().turn("Third?", "Three.")
    grandchild = child.fork().turn("Fourth?", "Four.")
    reverted = ThreadBuilder("0.169", seed=7).turn("First?").turn("Second?").revert(1).turn("Third?")
    for thread in (grandchild, child, source, reverted):
        thread.write(home)

    stats = of(home)

    assert found(stats) == {
        reverted.id: (3, 360),
        source.id: (2, 240),
        child.id: (1, 120),
        grandchild.id: (1, 120),
    }
    assert (stats.total.turns, stats.total.tokens.total) == (7, 840)


def test_a_file_that_lies_in_two_places_counts_once(home: Home) -> None:
    thread = ThreadBuilder("0.169").turn("First?")
    path = thread.write(home)
    (home.path / "sessions" / "elsewhere").mkdir()
    shutil.copy2(path, home.path / "sessions" / "elsewhere" / path.name)
    shutil.copy2(path, path.with_name(path.name + ".zst"))

    assert found(of(home)) == {thread.id: (1, 120)}


def test_days_weeks_and_months(home: Home) -> None:
    for number, days in enumerate((0, 0, 1, 40)):
        ThreadBuilder("0.142", start=BEGINNING + days * DAY, seed=number).turn("Hello?").write(home)

    assert found(of(home, "day")) == {"2026-07-01": (2, 240), "2026-07-02": (1, 120), "2026-08-10": (1, 120)}
    assert found(of(home, "week")) == {"2026-W27": (3, 360), "2026-W33": (1, 120)}
    assert found(of(home, "month")) == {"2026-07": (3, 360), "2026-08": (1, 120)}


@pytest.mark.usefixtures("zone")
def test_days_are_those_of_the_machine(home: Home) -> None:
    ThreadBuilder("0.142").turn("Hello?").write(home)

    assert list(found(of(home, "day", utc=False))) == ["2026-07-02"]
    assert list(found(of(home, "day", utc=True))) == ["2026-07-01"]


def test_models_providers_and_sources(home: Home) -> None:
    ThreadBuilder("0.169", seed=1, model="small", provider="here", source="exec").turn("A?").turn("B?").write(home)
    ThreadBuilder("0.169", seed=2, model="large", provider="there", source={"subagent": "review"}).turn("A?").write(
        home
    )
    ThreadBuilder("0.29", seed=3).turn("A?").write(home)

    assert found(of(home, "model")) == {"small": (2, 240), "large": (1, 120), None: (1, 0)}
    assert found(of(home, "provider")) == {"here": (2, 240), "there": (1, 120), None: (1, 0)}
    assert found(of(home, "source")) == {"exec": (2, 240), "subagent:review": (1, 120), None: (1, 0)}


def test_a_project_is_the_repository_a_folder_lies_in(home: Home, tmp_path: Path) -> None:
    inside = tmp_path / "repository" / "src" / "deep"
    inside.mkdir(parents=True)
    (tmp_path / "repository" / ".git").mkdir()
    for number, cwd in enumerate((inside, tmp_path / "repository", tmp_path / "gone")):
        ThreadBuilder("0.142", seed=number, cwd=str(cwd)).turn("Hello?").write(home)

    assert found(of(home, "project")) == {str(tmp_path / "repository"): (2, 240), str(tmp_path / "gone"): (1, 120)}


def test_what_is_left_out_is_left_out_of_everything(home: Home) -> None:
    old = ThreadBuilder("0.142", seed=1, cwd="/a").turn("First?")
    old.write(home, archived=True)
    child = old.fork().turn("Second?")
    child.write(home)
    other = ThreadBuilder("0.142", seed=2, start=BEGINNING + DAY, cwd="/a/b").turn("Hello?")
    other.write(home)

    def counted(query: StatsQuery) -> tuple[set[str | None], int]:
        stats = stats_of(home, query)
        assert sum(day.turns for day in stats.days) == sum(row.turns for row in stats.rows) == stats.total.turns
        return {row.key for row in stats.rows}, stats.archived_left_out

    assert counted(StatsQuery(by="thread")) == ({child.id, other.id}, 1)
    assert counted(StatsQuery(by="thread", archived=True)) == ({old.id}, 0)
    assert counted(StatsQuery(by="thread", archived=None)) == ({old.id, child.id, other.id}, 0)
    assert counted(StatsQuery(by="thread", thread_id=child.id)) == ({child.id}, 0)
    assert counted(StatsQuery(by="thread", cwd="/a/b")) == ({other.id}, 0)
    assert counted(StatsQuery(by="thread", cwd="/a")) == ({child.id, other.id}, 1)
    assert counted(StatsQuery(by="thread", since="2026-07-02T00:00:00Z")) == ({other.id}, 0)
    assert counted(StatsQuery(by="thread", until="2026-07-02T00:00:00Z")) == ({child.id}, 1)


def test_rows_that_are_cut_off_come_together(home: Home) -> None:
    threads = [ThreadBuilder("0.142", seed=number, start=BEGINNING + number * DAY) for number in range(4)]
    for turns, thread in enumerate(threads, 1):
        for _ in range(turns):
            thread.turn("Hello?")
        thread.write(home)

    dearest, newest = of(home, limit=2), of(home, "day", limit=2)

    assert list(found(dearest)) == [threads[3].id, threads[2].id]
    assert list(found(newest)) == ["2026-07-03", "2026-07-04"]
    for stats in (dearest, newest):
        assert stats.others is not None
        assert (stats.others.turns, stats.others.threads, stats.others.tokens.total) == (3, 2, 360)
        assert (stats.others.first, stats.others.last) == ("2026-07-01T12:00:00Z", "2026-07-02T12:00:01Z")
        assert stats.total.turns == 10


def test_cost_is_told_for_models_with_a_price_only(home: Home) -> None:
    ThreadBuilder("0.142", seed=1, model="known").turn("Hello?").write(home)
    ThreadBuilder("0.142", seed=2, model="unknown").turn("Hello?").write(home)
    prices = {"known": Price(input=1000.0, output=5000.0, cached=1.0)}

    stats = stats_of(home, StatsQuery(by="model", prices=prices))

    assert {row.key: (row.cost, row.unpriced) for row in stats.rows} == {"known": (0.28, 0), "unknown": (None, 120)}
    assert (stats.total.cost, stats.total.unpriced) == (0.28, 120)
    assert stats_of(home, StatsQuery()).total.cost is None


def test_every_grouping_adds_up_to_the_same(home: Home) -> None:
    write_every_shape(home)
    shapes = {by: of(home, by) for by in STATS_BY}
    totals = {by: stats.total for by, stats in shapes.items()}

    assert len(set(map(str, totals.values()))) == 1
    for stats in shapes.values():
        assert sum(row.tokens.total for row in stats.rows) == stats.total.tokens.total > 0
        assert sum(row.turns for row in stats.rows) == stats.total.turns


def test_what_is_known_is_not_read_again(home: Home) -> None:
    ThreadBuilder("0.142", seed=1).turn("Hello?").write(home)
    ThreadBuilder("0.142", seed=2).turn("Hello?").write(home)
    kept = {file.path: read_facts(home, file).digest for file in home.files()}
    whole = of(home)
    for path in kept:
        path.write_bytes(b"")

    def known(file: RolloutFile) -> object:
        return kept[file.path]

    assert stats_of(home, StatsQuery(by="thread", archived=None, utc=True), known=known) == whole  # type: ignore[arg-type]


def test_a_file_that_cannot_be_read_is_told(home: Home) -> None:
    good = ThreadBuilder("0.142", seed=1).turn("Hello?")
    good.write(home)
    packed = ThreadBuilder("0.142", seed=2).turn("Hello?")
    path = packed.write(home, compressed=True)
    damaged = path.with_name(path.name + ".zst")
    damaged.write_bytes(damaged.read_bytes()[:-200])

    stats = of(home)

    assert found(stats)[good.id] == (1, 120)
    assert len(stats.notices) == 1
    assert stats.notices[0].startswith(path.name)


def test_a_last_line_without_its_newline_counts(home: Home) -> None:
    ThreadBuilder("0.60").turn("Hello?").edit(lambda data: data.rstrip(b"\n")).write(home)

    assert of(home).total.tokens.total == 120


def test_a_time_that_is_none_is_refused(home: Home) -> None:
    with pytest.raises(BadRequest, match="since"):
        stats_of(home, StatsQuery(since="yesterday"))


def test_reading_stops_when_told(home: Home) -> None:
    for seed in range(3):
        ThreadBuilder("0.142", seed=seed).turn("Hello?").write(home)
    asked: list[int] = []

    def stop() -> bool:
        asked.append(1)
        return len(asked) > 1

    assert stats_of(home, StatsQuery(), stop=stop).total.turns == 1


def test_recorded_homes_add_up_in_every_grouping(shared: Path) -> None:
    compared = 0
    for folder in sorted(shared.glob("corpus/codex*/*/*/home")):
        recorded = Home(RealFileSystem(), folder)
        totals = {str(of(recorded, by).total) for by in ("thread", "day", "model", "project")}
        assert len(totals) == 1, folder
        compared += 1
    assert compared > 150
