"""Real processes on real files, killed at every fail point; the next finds all that was acknowledged, once."""

from __future__ import annotations

import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest
import zstandard
from crash_story import turn_begins, turn_ends
from doomed import NEW, OLD, TURN, opened

from clew.errors import Owner
from clew.rollout import FailPoints, Record
from clew.rollout.failpoints import FAIL_POINTS
from clew.store import LocalStore
from clew.store.contracts import ListQuery
from clew.testing.store_bench import meta, said

OWNER = Owner("next")
BEFORE = ["one", "two"]
WHATS = (
    "create",
    "append",
    "append to packed",
    "fork",
    "fork a copy",
    "revert",
    "compress",
    "materialise packed",
    "archive",
    "rename",
)
HITS = (1, 2, 3)
OFTEN = {
    ("create", "before_link"),
    ("append", "after_write"),
    ("fork", "after_create"),
    ("revert", "after_rename"),
    ("compress", "before_unlink"),
    ("archive", "after_rename"),
}


def _cases() -> list[Any]:
    """The usual ones always, all of them with the long tests."""
    found: list[Any] = []
    for what in WHATS:
        for point in sorted(FAIL_POINTS):
            for hit in HITS:
                always = hit == 1 and (what, point) in OFTEN
                found.append(pytest.param(what, point, hit, marks=() if always else pytest.mark.slow))
    return found


@pytest.mark.parametrize(("what", "point", "hit"), _cases())
def test_a_process_killed_at_a_fail_point_costs_nothing_that_was_acknowledged(
    tmp_path: Path, what: str, point: str, hit: int
) -> None:
    _prepare(tmp_path, paginated=what != "fork a copy", packed=what.endswith(" packed"))
    act = what.split()[0]
    script = Path(__file__).with_name("doomed.py")
    ended = subprocess.run(
        [sys.executable, script, str(tmp_path), act, f"{point}=kill@{hit}"],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode in (0, -9), ended.stderr
    acknowledged = ended.stdout.split("\n")[:-1]
    with closing(opened(tmp_path)) as store:
        old, new = _texts(store, OLD), _texts(store, NEW)
        lines = [f"{act} {number}{more}" for number in range(3) for more in ("", " more")]
        if act == "append":
            _extends(BEFORE + _acknowledged(lines, acknowledged), BEFORE + lines, old)
        elif act == "revert":
            assert old in (BEFORE, BEFORE[:1])
            assert old != BEFORE or "reverted" not in acknowledged
        else:
            assert old == BEFORE
        if act == "create":
            if "made" in acknowledged:
                assert new is not None
            _extends(_acknowledged(lines, acknowledged), lines, new or [])
        elif act == "fork":
            assert new in (None, BEFORE)
            assert new is not None or "forked" not in acknowledged
        listed = store.catalog.list(ListQuery(archived=None)).threads
        assert sorted(thread.id for thread in listed) == [OLD, *([NEW] if new is not None else [])]
        assert [thread.error for thread in listed] == [None] * len(listed)
        summary = store.catalog.get(OLD)
        if "archived" in acknowledged:
            assert summary.archived
        if "renamed" in acknowledged:
            assert summary.name == "alpha"
        anyio.run(_goes_on, store, summary.archived, old)


def _prepare(home: Path, *, paginated: bool, packed: bool) -> None:
    async def prepare() -> None:
        with closing(opened(home)) as store:
            async with store.lease(OLD, OWNER, create=True) as lease:
                mode = "paginated" if paginated else None
                await lease.append(
                    [meta(OLD, mode), said(BEFORE[0]), turn_begins(TURN), said(BEFORE[1]), turn_ends(TURN)]
                )
            path = Path(store.catalog.get(OLD).path)
        if packed:
            path.with_name(f"{path.name}.zst").write_bytes(zstandard.compress(path.read_bytes()))
            path.unlink()

    anyio.run(prepare)


async def _goes_on(store: LocalStore, archived: bool, before: list[str]) -> None:
    """Whatever was left behind is no hindrance, and does not come back to life."""
    if archived:
        store.catalog.unarchive(OLD)
    async with store.lease(OLD, OWNER) as lease:
        await lease.append([said("afterwards")])
    store.catalog.archive(OLD)
    assert store.catalog.get(OLD).archived
    async with store.lease(NEW, OWNER, create=True) as lease:
        if not lease.existed:
            await lease.append([meta(NEW)])
        await lease.append([said("afterwards")])
    for thread_id in (OLD, NEW):
        assert (_texts(store, thread_id) or [])[-1] == "afterwards"
    assert _texts(store, OLD) == [*before, "afterwards"]


def _texts(store: LocalStore, thread_id: str) -> Any:
    if thread_id not in {thread.id for thread in store.catalog.list(ListQuery(archived=None)).threads}:
        return None
    records = [line for line in store.read(thread_id) if isinstance(line, Record)]
    numbers = [line.ordinal for line in records if line.ordinal is not None]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
    return [msgspec.json.decode(line.payload)["content"][0]["text"] for line in records if line.type == "response_item"]


def _acknowledged(lines: list[str], told: list[str]) -> list[str]:
    return [line for line in lines if line.removesuffix(" more") in told]


def _extends(least: list[str], most: list[str], found: list[str]) -> None:
    assert found[: len(least)] == least
    assert most[: len(found)] == found


def test_the_points_are_those_that_are_named() -> None:
    assert {point for _, point in OFTEN} <= FAIL_POINTS
    assert FailPoints.parse("before_link=kill@2").hits == {}
