from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import anyio
import msgspec
import pytest
from keeping_bench import CLEW, Family, opened

from clew.clock import SystemClock
from clew.config.retention import Retention, RetentionRule
from clew.errors import Owner
from clew.ids import SystemIds
from clew.library import Library
from clew.rollout import WriterLock
from clew.store import LocalStore
from clew.store.queries import ListQuery, ThreadSummary
from clew.store.retention import plan_retention

NOW = datetime(2026, 8, 1, tzinfo=UTC)
DAY = 86_400


def thread(number: int, *, days: int, size: int = 100, **fields: Any) -> ThreadSummary:
    stamp = datetime.fromtimestamp(NOW.timestamp() - days * DAY, UTC).isoformat()
    told = {"id": f"t{number}", "path": f"/{number}", "created_at": stamp, "updated_at": stamp, "size": size}
    return msgspec.convert({**told, "archived": False, "source": "cli", **fields}, ThreadSummary)


def rule(action: str = "trash", **fields: Any) -> RetentionRule:
    return msgspec.convert({"name": "r", "action": action, **fields}, RetentionRule)


def planned(threads: list[ThreadSummary], *rules: RetentionRule, **fields: Any) -> tuple[list[str], dict[str, str]]:
    options = {name: fields.pop(name) for name in ("held", "packed") if name in fields}
    retention = Retention(rules=rules, keep_newest=fields.get("keep_newest", 0))
    due, spared = plan_retention(threads, retention, now=NOW, **options)
    return [f"{one.action} {one.thread.id}" for one in due], {one.thread.id: one.why for one in spared}


def test_without_rules_nothing_is_due() -> None:
    due, spared = plan_retention([thread(1, days=9999)], Retention(), now=NOW)
    assert (due, spared) == ((), ())


def test_age_is_counted_from_the_last_write_and_the_oldest_goes_first() -> None:
    threads = [thread(1, days=91), thread(2, days=90), thread(3, days=400)]
    assert planned(threads, rule(older_than=90 * DAY)) == (["trash t3", "trash t1"], {})


def test_beyond_a_size_the_oldest_go() -> None:
    threads = [thread(number, days=number, size=100) for number in range(1, 6)]
    assert planned(threads, rule(larger_than=250))[0] == ["trash t5", "trash t4", "trash t3"]
    assert planned(threads, rule(larger_than=500))[0] == []
    assert planned(threads, rule(larger_than=250, older_than=4 * DAY))[0] == ["trash t5"]


def test_a_rule_asks_for_all_that_it_names() -> None:
    threads = [
        thread(1, days=10, source="mcp", tags=("tmp",), archived=True),
        thread(2, days=10, source="mcp", tags=("tmp",)),
        thread(3, days=10, source="mcp", archived=True),
        thread(4, days=10, tags=("tmp",), archived=True),
    ]
    wanted = rule(older_than=DAY, sources=("mcp", "exec"), tags=("tmp", "x"), archived_only=True)
    assert planned(threads, wanted)[0] == ["trash t1"]


def test_the_first_rule_that_fits_counts() -> None:
    threads = [thread(1, days=10), thread(2, days=100), thread(3, days=100, archived=True)]
    rules = rule("archive", older_than=90 * DAY), rule("compress", older_than=DAY)
    assert planned(threads, *rules)[0] == ["archive t2", "compress t3", "compress t1"]
    assert planned(threads, *rules, packed={"t1"})[0] == ["archive t2", "compress t3"]


def test_what_is_kept_says_why() -> None:
    threads = [
        thread(1, days=100, pinned=True),
        thread(2, days=100, tags=("keep",)),
        thread(3, days=100),
        thread(4, days=100, error="cannot"),
        thread(5, days=50),
        thread(6, days=100),
        thread(7, days=100, parent_id="t6", pinned=True),
    ]
    due, spared = planned(threads, rule(older_than=DAY), held={"t3"}, keep_newest=1)
    assert due == []
    assert spared == {
        "t1": "it is pinned",
        "t2": "it is tagged keep",
        "t3": "somebody writes it",
        "t4": "it cannot be read",
        "t5": "it is one of the newest 1",
        "t6": "it spawned t7, and it is pinned",
        "t7": "it is pinned",
    }


def test_what_goes_with_another_thread_is_no_step_of_its_own() -> None:
    threads = [thread(1, days=100), thread(2, days=100, parent_id="t1"), thread(3, days=1, parent_id="t2")]
    retention = Retention(rules=(rule(older_than=DAY * 2),), keep_newest=0)
    due, _ = plan_retention(threads, retention, now=NOW)
    assert [(one.thread.id, one.also) for one in due] == [("t1", ("t2", "t3"))]


def library(store: LocalStore) -> Library:
    clock = SystemClock()
    owner = Owner("clew test")
    return Library(
        store, store.catalog, owner=owner, clock=clock, ids=SystemIds(clock), version="1", keeper=store.keeper
    )


def test_rules_are_applied_only_when_told_and_everything_can_come_back() -> None:
    family = Family()
    family.fork.write(family.home)
    before = family.files()
    everything = Retention(rules=(rule(older_than=0),), keep_newest=0)
    with opened(family.fs) as store:
        shown = anyio.run(library(store).retention, everything)
        assert family.files() == before
        done = anyio.run(_applied, store, everything)
        assert (done.due, done.spared) == (shown.due, shown.spared)
        assert [(one.thread.id, one.why) for one in done.spared] == [
            (family.root.id, f"{family.fork.id} was forked from it and reads its lines")
        ]
        left = {one.id for one in store.catalog.list(ListQuery(archived=None)).threads}
        # The fork went, too, and was there when the rules were read.
        assert left == {family.root.id, family.child.id, family.grandchild.id}
        for entry in store.keeper.trash():
            assert entry.why == "retention: r"
            store.keeper.restore(entry.id)
    assert family.files() == before


async def _applied(store: LocalStore, retention: Retention) -> Any:
    return await library(store).retention(retention, apply=True)


@pytest.mark.parametrize("action", ["archive", "trash"])
def test_a_thread_that_somebody_begins_to_write_meanwhile_is_told_and_the_others_go(action: str) -> None:
    family = Family()
    with opened(family.fs) as store:
        due, _ = store.keeper.due(Retention(rules=(rule(action, older_than=0),), keep_newest=0))
        lock = WriterLock.acquire(family.home, CLEW, family.other.id, Owner("writer", 1))
        done = [store.keeper.do(one) for one in due]
        lock.release()
    assert {one.thread.id: one.failed is not None for one in done}[family.other.id]
    assert sum(one.failed is None for one in done) == len(done) - 1
