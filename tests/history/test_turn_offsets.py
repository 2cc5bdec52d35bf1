"""Pages of turns by the places of their lines must show what reading everything shows, however the log grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from written import TIME, event, item, meta, said

from clew.history import turns
from clew.history.turn_offsets import TurnOffsets
from clew.rollout import Home, read_thread
from clew.rollout.envelope import Line, encode_line
from clew.rollout.offsets import ThreadLog
from clew.testing import MemoryFileSystem, ThreadBuilder, memory_home

THREAD = "019f1d8c-e200-7001-b59c-04cd94a162dd"
TURNS = st.sampled_from(["a", "b", "c", "d", "e"])


def message_event(kind: str, text: str) -> Line:
    return event(kind, message=text, text=text)


def marker(kind: str, turn: str | None, error: bool) -> Line:
    return event(kind, turn_id=turn, **({"error": {"message": "m"}} if error else {}))


def ended_item(kind: str, turn: str | None, call: str | None) -> Line:
    return event(kind, turn_id=turn, call_id=call, success=True, query="q")


def stored(turn: str, kind: str, item_id: str) -> Line:
    return event("item_completed", turn_id=turn, item={"type": kind, "id": item_id, "text": "t"})


def rollback(count: int) -> Line:
    return event("thread_rolled_back", num_turns=count)


HOOK = '<hook_prompt hook_run_id="r">be brief</hook_prompt>'
SAID: st.SearchStrategy[Line] = st.one_of(
    st.builds(message_event, st.sampled_from(["user_message", "agent_message", "agent_reasoning"]), st.just("hello")),
    st.builds(said, st.sampled_from(["user", "assistant", "developer"]), st.sampled_from(["x", HOOK])),
    st.just(item("function_call", name="f", arguments="{}", call_id="c")),
    st.just(event("token_count", info=None)),
    st.just(event("context_compacted")),
    st.just(event("error", message="bad")),
    st.just(Line("compacted", {"message": "sum"})),
    st.just(Line("turn_context", {"cwd": "/w"})),
)
LINES: st.SearchStrategy[Line] = st.one_of(
    SAID,
    SAID,
    st.builds(marker, st.sampled_from(["task_started", "task_started", "task_complete"]), TURNS, st.booleans()),
    st.builds(marker, st.sampled_from(["turn_aborted", "task_started"]), TURNS | st.none(), st.just(False)),
    st.builds(ended_item, st.sampled_from(["patch_apply_end", "web_search_end"]), TURNS | st.none(), st.none() | TURNS),
    st.builds(stored, TURNS, st.sampled_from(["Plan", "UserMessage", "CommandExecution"]), TURNS),
    st.builds(rollback, st.integers(0, 3)),
)
PIECES = st.one_of(
    LINES.map(lambda line: encode_line(line, timestamp=TIME, ordinal=None)),
    st.sampled_from([b"rubbish\n", b"\n", b'{"timestamp":"t","type":"response_item","payload":{"type":"f"\n']),
)
GROWN = st.lists(st.lists(PIECES, max_size=12), min_size=1, max_size=5)


def check_growing(mode: str, grown: list[list[bytes]], limit: int, newest_first: bool) -> None:
    fs = MemoryFileSystem()
    home = Home(fs, Path("/home/codex"))
    path = home.new_path(THREAD, 1_782_907_200.0)
    fs.make_folder(path.parent)
    file = fs.open_append(path)
    file.write(encode_line(meta(id=THREAD, history_mode=mode), timestamp=TIME, ordinal=None))
    offsets = TurnOffsets(mode)
    for pieces in grown:
        # A line that is cut now and goes on later must count once it is whole.
        data = b"".join(pieces)
        for part in (data[: len(data) // 2], data[len(data) // 2 :]):
            file.write(part)
            files = home.find(THREAD)
            assert files is not None
            log = ThreadLog(home, files)
            expected = turns(read_thread(home, files), mode)
            offsets.extend(log)
            page = offsets.page(log, limit=len(expected) or 1, newest_first=newest_first)
            assert page is not None
            assert list(page.turns) == (expected[::-1] if newest_first else expected)
            assert not page.more
            if len({turn.id for turn in expected}) == len(expected):
                check_pages(offsets, log, list(page.turns), limit, newest_first)


def check_pages(offsets: TurnOffsets, log: ThreadLog, whole: list[Any], limit: int, newest_first: bool) -> None:
    for place, turn in enumerate(whole):
        page = offsets.page(log, limit=limit, after=turn.id, newest_first=newest_first)
        assert page is not None
        assert list(page.turns) == whole[place + 1 : place + 1 + limit]
        assert page.more == (len(whole) > place + 1 + limit)
    assert offsets.page(log, limit=limit, after="nobody") is None


@settings(max_examples=250, deadline=None)
@given(GROWN, st.integers(1, 4), st.booleans())
def test_pages_of_a_growing_legacy_log_show_what_all_of_it_shows(
    grown: list[list[bytes]], limit: int, newest_first: bool
) -> None:
    check_growing("legacy", grown, limit, newest_first)


@settings(max_examples=120, deadline=None)
@given(GROWN, st.integers(1, 4), st.booleans())
def test_pages_of_a_growing_paginated_log_show_what_all_of_it_shows(
    grown: list[list[bytes]], limit: int, newest_first: bool
) -> None:
    check_growing("paginated", grown, limit, newest_first)


def check_going_on(mode: str, grown: list[list[bytes]], limit: int) -> None:
    """Each process goes on with what the one before it stored."""
    fs = MemoryFileSystem()
    home = Home(fs, Path("/home/codex"))
    path = home.new_path(THREAD, 1_782_907_200.0)
    fs.make_folder(path.parent)
    file = fs.open_append(path)
    file.write(encode_line(meta(id=THREAD, history_mode=mode), timestamp=TIME, ordinal=None))
    stored: bytes | None = None
    for pieces in grown:
        data = b"".join(pieces)
        for part in (data[: len(data) // 2], data[len(data) // 2 :]):
            file.write(part)
            files = home.find(THREAD)
            assert files is not None
            log, fresh = ThreadLog(home, files), TurnOffsets(mode)
            fresh.extend(log)
            again = None if stored is None else TurnOffsets.from_bytes(stored, log, mode)
            assert (again is None) == (stored is None), "it only grew"
            again = again or TurnOffsets(mode)
            again.extend(log)
            assert again.ids() == fresh.ids()
            # A page of some turns leaves others as they were read.
            assert again.page(log, limit=limit) == fresh.page(log, limit=limit)
            stored = again.to_bytes(log)
            assert again.page(log, limit=1000, newest_first=True) == fresh.page(log, limit=1000, newest_first=True)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["legacy", "legacy", "paginated"]), GROWN, st.integers(1, 4))
def test_an_index_that_was_stored_and_extended_shows_what_one_that_never_was_shows(
    mode: str, grown: list[list[bytes]], limit: int
) -> None:
    check_going_on(mode, grown, limit)


def _stored(mode: str) -> tuple[bytes, ThreadLog]:
    fs = MemoryFileSystem()
    thread = ThreadBuilder("0.169", paginated=mode == "paginated")
    for number in range(4):
        thread.turn(f"question {number}", f"answer {number}")
    home = memory_home(fs)
    thread.write(home)
    files = home.find(thread.id)
    assert files is not None
    log, offsets = ThreadLog(home, files), TurnOffsets(mode)
    offsets.extend(log)
    assert offsets.page(log, limit=2) is not None
    data = offsets.to_bytes(log)
    assert data is not None
    return data, log


@pytest.mark.parametrize("mode", ["legacy", "paginated"])
def test_what_was_stored_covers_all_of_the_log_and_counts_for_its_own_mode_alone(mode: str) -> None:
    data, log = _stored(mode)
    found = TurnOffsets.from_bytes(data, log, mode)
    assert found is not None
    assert len(found.ids()) == 4
    fresh = TurnOffsets(mode)
    fresh.extend(log)
    assert found.covered(log) == fresh.covered(log) > 0
    assert TurnOffsets.from_bytes(data, log, "legacy" if mode == "paginated" else "paginated") is None
    assert (TurnOffsets.from_bytes(data, log, mode, subagent_start=3) is None) == (mode == "paginated")


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(["legacy", "paginated"]), st.binary(max_size=64), st.integers(0, 1 << 16))
def test_rubbish_is_no_index(mode: str, rubbish: bytes, place: int) -> None:
    stored, log = _KEPT[mode]
    cut = stored[: place % len(stored)]
    assert TurnOffsets.from_bytes(rubbish, log, mode) is None
    assert TurnOffsets.from_bytes(cut, log, mode) is None
    assert TurnOffsets.from_bytes(stored + b"\0", log, mode) is None
    # Some changes make sense, too: whoever keeps it has a checksum. None of them raises.
    found = TurnOffsets.from_bytes(cut + rubbish + stored[len(cut) + len(rubbish) :], log, mode)
    assert found is None or isinstance(found.ids(), list)


_KEPT = {mode: _stored(mode) for mode in ("legacy", "paginated")}
