"""Threads come in the order of a list, whatever their names and places."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clew.rollout import Home, RealFileSystem
from clew.store.order import Order
from clew.store.queries import ListQuery, SortKey
from clew.store.walks import threads_in_order
from clew.testing import MemoryFileSystem, memory_home

IDS = [f"019f1da4-8800-7{number}73-b75e-7c7e5acdeea7" for number in "0123abc"]
SEGMENTS = [None, None, None, *(f"019f1da4-9900-7{number}73-b75e-7c7e5acdeea7" for number in "12")]
STAMPS = ["2026-07-01T12-00-00", "2026-07-01T12-00-01", "2025-01-31T00-00-00", "no time", ""]
FOLDERS = ["sessions/2026/07/01", "sessions/2025/01/31", "sessions", "sessions/odd/place", "archived_sessions"]


def _name(thread: str, segment: str | None, stamp: str, packed: bool, upper: bool) -> str:
    tail = f"_{segment}" if segment else ""
    return f"rollout-{stamp}-{thread.upper() if upper else thread}{tail}.jsonl{'.zst' if packed else ''}"


names = st.builds(
    _name,
    st.sampled_from(IDS),
    st.sampled_from(SEGMENTS),
    st.sampled_from(STAMPS),
    st.booleans(),
    st.sampled_from([False, False, False, True]),
)
others = st.sampled_from(["notes.txt", "x" * 70, "rollout-2026-07-01T12-00-00-" + "x" * 36 + ".jsonl"])
files = st.lists(st.tuples(st.sampled_from(FOLDERS), st.one_of(names, names, names, others)), max_size=12, unique=True)


def _key(sort: SortKey, files: Any) -> Any:
    return {"created": files.segments[0].name.stamp, "updated": files.current.mtime_ns, "size": files.current.size}[
        sort
    ], files.thread_id


_TWICE = [
    ("sessions/2026/07/01", f"rollout-2026-07-01T12-00-0{second}-{IDS[0]}.jsonl{packed}")
    for second, packed in ((0, ""), (0, ".zst"), (1, ""))
]


@example(_TWICE, "created", False, None, 0)
@given(
    files,
    st.sampled_from(["created", "updated", "size"]),
    st.booleans(),
    st.sampled_from([None, True, False]),
    st.integers(0, 5),
)
def test_threads_come_in_the_order_asked_for(
    found: list[tuple[str, str]], sort: SortKey, ascending: bool, archived: bool | None, behind: int
) -> None:
    home = memory_home(MemoryFileSystem())
    for number, (folder, name) in enumerate(found):
        path = home.path / folder / name
        home.fs.make_folder(path.parent)
        file = home.fs.open_append(path)
        file.write(b"x" * (number % 4))
        file.close()
        home.fs.set_mtime(path, (number * 7 % 5) * 1000)
    expected = sorted(
        ((_key(sort, one), one) for one in home.threads() if archived in (None, one.archived)),
        key=lambda one: one[0],
        reverse=not ascending,
    )
    order = Order(ListQuery(sort=sort, ascending=ascending))
    assert list(threads_in_order(home, order, archived=archived)) == expected
    if behind < len(expected):
        cursor = order.cursor(expected[behind][0])
        rest = Order(ListQuery(sort=sort, ascending=ascending, cursor=cursor))
        assert list(threads_in_order(home, rest, archived=archived)) == expected[behind + 1 :]


@pytest.mark.parametrize("sort", ["created", "updated"])
def test_links_pipes_and_folders_are_no_threads(tmp_path: Path, sort: SortKey) -> None:
    home = Home(RealFileSystem(), tmp_path)
    folder = home.sessions / "2026/07/01"
    folder.mkdir(parents=True)
    kinds = [f"rollout-2026-07-01T12-00-0{number}-{thread}.jsonl" for number, thread in enumerate(IDS)]
    (folder / kinds[0]).write_text("{}\n")
    (folder / kinds[1]).symlink_to(folder / kinds[0])
    (folder / kinds[2]).mkdir()
    found = threads_in_order(home, Order(ListQuery(sort=sort)))
    assert [files.current.path for _, files in found] == [folder / kinds[0]]
