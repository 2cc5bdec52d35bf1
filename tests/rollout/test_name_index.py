from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.errors import DiskFull, LogDamaged, SyncFailed
from clew.ids import uuid7_at
from clew.rollout import Home, NameIndex, NameRow, RealFileSystem, SavedSession, read_saved_sessions
from clew.testing.disk import MemoryFileSystem

A, B, C = (uuid7_at(number, bytes([number]) * 10) for number in (1, 2, 3))


class Clock:
    def now(self) -> float:
        return 1_782_907_200.5

    def monotonic(self) -> float:
        return 0.0


def put(home: Home, *rows: object, raw: bytes = b"") -> NameIndex:
    assert isinstance(home.fs, MemoryFileSystem)
    home.fs.write_bytes(home.session_index, b"".join(json.dumps(row).encode() + b"\n" for row in rows) + raw)
    return NameIndex(home)


def row(thread: str, name: str) -> dict[str, str]:
    return {"id": thread, "thread_name": name, "updated_at": "2026-07-01T12:00:00.000000000Z"}


def test_the_newest_row_of_a_thread_counts(home: Home) -> None:
    names = put(home, row(A, "old"), row(B, "two"), row(A, " new "), row(C, "gone"), row(C, ""))
    assert names.names() == {A: "new", B: "two"}
    assert [names.name_of(thread) for thread in (A, A.upper(), B, C, uuid7_at(9, b"z" * 10), "rubbish")] == [
        "new",
        "new",
        "two",
        None,
        None,
        None,
    ]


def test_a_name_resolves_newest_first_and_old_names_do_not(home: Home) -> None:
    names = put(home, row(A, "same"), row(B, "same"), row(C, "same"), row(B, "other"), row(A, "same"))
    assert [names.resolve(name) for name in ("same", "other", " other ", "Same", "")] == [[A, C], [B], [B], [], []]


def test_bad_rows_hide_nothing(home: Home) -> None:
    rubbish = b'\n\r\nrubbish\n{"id":5}\n[]\n\xff\xfe\n{"id":"no uuid","thread_name":"x"}\n{"id":"' + A.encode()
    names = put(
        home, row(A, "one"), {"id": B, "thread_name": None}, {"id": C, "thread_name": "c", "new": 1}, raw=rubbish
    )
    assert names.names() == {A: "one", C: "c"}


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["append", "append", "torn", "replace", "in place", "delete"]),
            st.sampled_from([A, B, C]),
            st.sampled_from(["one", "two", "", "six"]),
        ),
        max_size=12,
    )
)
def test_what_is_read_bit_by_bit_is_what_a_whole_look_finds(steps: list[tuple[str, str, str]]) -> None:
    home = Home(MemoryFileSystem(), Path("/home/codex"))
    assert isinstance(home.fs, MemoryFileSystem)
    known = NameIndex(home)
    before, data = known.names(), b""
    for how, thread, name in steps:
        line = json.dumps(row(thread, name)).encode()
        if how == "in place":
            data = data.replace(b"one", b"six")  # as many bytes as before
        elif how == "delete":
            data = b""
            with contextlib.suppress(FileNotFoundError):
                home.fs.unlink(home.session_index)
        else:
            data = {"append": data + line + b"\n", "torn": data + line, "replace": line + b"\n"}[how]
        if how != "delete":
            home.fs.write_bytes(home.session_index, data)
        named, touched = known.look()
        fresh = NameIndex(home)
        assert list(named.items()) == list(fresh.look()[0].items())
        now = fresh.names()
        changed = {one for one in {*before, *now} if before.get(one) != now.get(one)}
        assert touched is None or changed <= touched
        assert [known.resolve(word) for word in ("one", "two", "six")] == [
            fresh.resolve(word) for word in ("one", "two", "six")
        ]
        before = now


def test_without_a_file_there_are_no_names(home: Home) -> None:
    assert (NameIndex(home).names(), NameIndex(home).resolve("x")) == ({}, [])


def test_a_rename_is_one_durable_row(home: Home) -> None:
    names = NameIndex(home)
    written = names.rename(A.upper(), "  Möbius \ud83d ", Clock())
    assert written == NameRow(A, "Möbius \ufffd", "2026-07-01T12:00:00.500000000Z")
    assert isinstance(home.fs, MemoryFileSystem)
    home.fs.crash()
    assert list(names.rows_back()) == [written]
    names.rename(A, None, Clock())
    assert names.names() == {}


def test_a_torn_row_is_not_continued(home: Home) -> None:
    names = put(home, row(A, "one"), raw=b'{"id":"')
    names.rename(B, "two", Clock())
    assert names.names() == {A: "one", B: "two"}


def test_what_cannot_be_renamed_is_told(home: Home) -> None:
    names = NameIndex(home)
    with pytest.raises(ValueError, match="UUID"):
        names.rename("last", "x", Clock())
    assert isinstance(home.fs, MemoryFileSystem)
    home.fs.free = 0
    with pytest.raises(DiskFull):
        names.rename(A, "x", Clock())
    home.fs.free = None
    home.fs.fail("sync")
    with pytest.raises(SyncFailed):
        names.rename(A, "x", Clock())


def test_renames_from_several_threads_all_arrive(tmp_path: Path) -> None:
    home = Home(RealFileSystem(), tmp_path / "codex")

    def rename(number: int) -> None:
        NameIndex(home).rename(uuid7_at(number, b"w" * 10), "x", Clock())

    workers = [threading.Thread(target=rename, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(5)
    assert len(NameIndex(home).names()) == 8
    assert sorted(path.name for path in home.path.iterdir()) == ["session_index.jsonl", "session_index.jsonl.lock"]


def saved(home: Home, text: str) -> list[SavedSession]:
    assert isinstance(home.fs, MemoryFileSystem)
    home.fs.write_bytes(home.path / "saved_sessions.json", text.encode())
    return read_saved_sessions(home)


def test_saved_sessions_come_last_saved_first(home: Home) -> None:
    assert read_saved_sessions(home) == []
    entry = {
        "name": "n",
        "conversationId": A,
        "rolloutPath": "/r",
        "cwd": "/c",
        "model": "m",
        "savedAt": "2025-11-02T00:00:00Z",
    }
    older = {"conversationId": B, "rolloutPath": "/s", "savedAt": "2025-11-01T00:00:00Z", "modelProvider": "p"}
    text = json.dumps({"entries": {"older": older, "n": entry, "broken": {"name": 5}, "odd": 7}}, indent=2)
    assert saved(home, text) == [
        SavedSession("n", A, "/r", "/c", "m", None, "2025-11-02T00:00:00Z"),
        SavedSession("older", B, "/s", "", "", "p", "2025-11-01T00:00:00Z"),
    ]
    assert saved(home, "{}") == []


@pytest.mark.parametrize("text", ["", "rubbish", "[]", '{"entries": 5}'])
def test_saved_sessions_that_are_none_are_an_error(home: Home, text: str) -> None:
    with pytest.raises(LogDamaged):
        saved(home, text)
