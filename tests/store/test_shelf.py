from __future__ import annotations

import multiprocessing
from pathlib import Path

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from clew.clock import SystemClock
from clew.errors import BadRequest
from clew.ids import uuid7_at
from clew.rollout import RealFileSystem
from clew.store.queries import Marks
from clew.store.shelf import Saved, Shelf, clean_name
from clew.testing import MemoryFileSystem

A, B, C = THREADS = [uuid7_at(number, bytes([number]) * 10) for number in (1, 2, 3)]
HOME = Path("/clew")


class Clock:
    def now(self) -> float:
        return 1_782_907_200.5

    def monotonic(self) -> float:
        return 0.0


def shelf(fs: MemoryFileSystem) -> Shelf:
    return Shelf(fs, HOME, clock=Clock(), by="clew tag")


def test_a_mark_is_a_row_that_says_who_when_to_what_and_which() -> None:
    fs = MemoryFileSystem()
    ours = shelf(fs)
    ours.tag(A, ["red", " blue ", "red"])
    ours.pin(A.upper())
    ours.note(A, " Möbius\nstrip ")
    ours.save(A, "first")
    assert ours.marks() == {
        A: Marks(tags=frozenset({"red", "blue"}), pinned=True, note="Möbius\nstrip", names=("first",))
    }
    head = b'{"at":"2026-07-01T12:00:00.500Z","by":"clew tag","thread":"' + A.encode() + b'","do":'
    assert fs.read_bytes(ours.path).splitlines() == [
        head + b'"tag","value":"red"}',
        head + b'"tag","value":"blue"}',
        head + b'"pin"}',
        head + '"note","value":"Möbius\\nstrip"}'.encode(),
        head + b'"save","value":"first"}',
    ]


def test_what_is_so_already_is_not_written_again() -> None:
    fs = MemoryFileSystem()
    ours = shelf(fs)
    for _ in range(2):
        ours.tag(A, ["red"])
        ours.pin(A)
        ours.note(A, "text")
    ours.untag(A, ["other"])
    ours.unpin(B)
    ours.note(B, None)
    assert len(fs.read_bytes(ours.path).splitlines()) == 3


def test_marks_that_are_taken_away_leave_nothing() -> None:
    fs = MemoryFileSystem()
    ours = shelf(fs)
    ours.tag(A, ["red"])
    ours.pin(A)
    ours.note(A, "text")
    ours.save(A, "name")
    assert ours.untag(A, ["red"]) == Marks(pinned=True, note="text", names=("name",))
    ours.unpin(A)
    ours.note(A, " ")
    assert ours.unsave(" name ") == A
    assert (ours.marks(), ours.saved()) == ({}, {})


def test_a_name_goes_to_the_newest_thread_and_says_from_which() -> None:
    ours = shelf(MemoryFileSystem())
    assert ours.save(A, "one") == Saved(name="one", thread_id=A)
    assert ours.save(A, "two") == Saved(name="two", thread_id=A)
    assert ours.marks_of(A).names == ("two", "one")
    assert ours.save(B, " one ") == Saved(name="one", thread_id=B, moved_from=A)
    assert ours.save(B, "one") == Saved(name="one", thread_id=B)
    assert ours.marks() == {A: Marks(names=("two",)), B: Marks(names=("one",))}
    assert [ours.thread_saved_as(name) for name in ("one", "two", "three")] == [B, A, None]


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x1b[0m", "a\u2028b", "last", " last ", A, A.upper(), "x" * 501])
def test_a_name_that_could_not_be_used_is_refused(name: str) -> None:
    fs = MemoryFileSystem()
    with pytest.raises(BadRequest):
        shelf(fs).save(A, name)
    assert shelf(fs).version is None


def test_names_of_all_scripts_are_taken() -> None:
    family = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
    assert [clean_name(name) for name in (family, "Größe ", "名前", "half \ud83d")] == [
        family,
        "Größe",
        "名前",
        "half \ufffd",
    ]


@pytest.mark.parametrize("thread", ["", "..", "../../x", "rubbish"])
def test_what_is_no_id_gets_no_marks(thread: str) -> None:
    with pytest.raises(BadRequest):
        shelf(MemoryFileSystem()).pin(thread)


def test_rows_of_later_versions_and_of_no_thread_hide_nothing() -> None:
    fs = MemoryFileSystem()
    ours = shelf(fs)
    ours.pin(A)
    more = (
        b'{"at":"","by":"","thread":"%s","do":"colour","value":"x"}\n{"at":"","by":"","thread":"no","do":"pin"}\nrubbish\n'
        % A.encode()
    )
    fs.write_bytes(ours.path, fs.read_bytes(ours.path) + more)
    ours.pin(B)
    assert (ours.marks(), ours.damaged) == ({A: Marks(pinned=True), B: Marks(pinned=True)}, 2)


def test_the_version_is_the_same_while_nothing_changed() -> None:
    fs = MemoryFileSystem()
    ours, theirs = shelf(fs), shelf(fs.program())
    before = ours.version
    theirs.marks()
    assert ours.version == before
    theirs.pin(A)
    after = ours.version
    assert after != before
    assert (ours.marks_of(A).pinned, ours.version) == (True, after)


def test_marks_that_were_handed_out_do_not_change() -> None:
    ours = shelf(MemoryFileSystem())
    ours.pin(A)
    before = ours.marks()
    ours.pin(B)
    assert (set(before), set(ours.marks())) == ({A}, {A, B})


def test_reading_again_does_not_read_the_file_again() -> None:
    fs = MemoryFileSystem()
    ours = shelf(fs)
    ours.pin(A)
    ours.marks()
    before = fs.calls["open"]
    for _ in range(10):
        ours.marks_of(A)
    assert fs.calls["open"] == before


class ShelfMachine(RuleBasedStateMachine):
    """Two programs and losses of power, against plain dictionaries."""

    def __init__(self) -> None:
        super().__init__()
        self.fs = MemoryFileSystem()
        self.shelves = [shelf(self.fs), shelf(self.fs)]
        self.marks: dict[str, Marks] = {}
        self.names: list[tuple[str, str]] = []  # last saved first

    def change(self, thread: str, **values: object) -> None:
        old = self.marks.get(thread, Marks())
        fields = {name: getattr(old, name) for name in ("tags", "pinned", "note")}
        self.marks[thread] = msgspec.convert({**fields, **values}, Marks)

    who = st.integers(0, 1)
    threads = st.sampled_from(THREADS)
    words = st.sampled_from(["one", "two", "drei"])

    @rule(who=who, thread=threads, tag=words)
    def tag(self, who: int, thread: str, tag: str) -> None:
        self.shelves[who].tag(thread, [tag])
        self.change(thread, tags=self.marks.get(thread, Marks()).tags | {tag})

    @rule(who=who, thread=threads, tag=words)
    def untag(self, who: int, thread: str, tag: str) -> None:
        self.shelves[who].untag(thread, [tag])
        self.change(thread, tags=self.marks.get(thread, Marks()).tags - {tag})

    @rule(who=who, thread=threads, pinned=st.booleans())
    def pin(self, who: int, thread: str, pinned: bool) -> None:
        (self.shelves[who].pin if pinned else self.shelves[who].unpin)(thread)
        self.change(thread, pinned=pinned)

    @rule(who=who, thread=threads, text=st.sampled_from([None, "text", "other text"]))
    def note(self, who: int, thread: str, text: str | None) -> None:
        self.shelves[who].note(thread, text)
        self.change(thread, note=text)

    @rule(who=who, thread=threads, name=words)
    def save(self, who: int, thread: str, name: str) -> None:
        had = dict(self.names).get(name)
        saved = self.shelves[who].save(thread, name)
        assert saved.moved_from == (had if had != thread else None)
        self.names = [(name, thread), *((other, of) for other, of in self.names if other != name)]

    @rule(who=who, name=words)
    def unsave(self, who: int, name: str) -> None:
        assert self.shelves[who].unsave(name) == dict(self.names).get(name)
        self.names = [(other, of) for other, of in self.names if other != name]

    @rule(seed=st.none() | st.integers(0, 99))
    def lose_power(self, seed: int | None) -> None:
        self.fs.crash(seed)
        self.shelves[0] = shelf(self.fs)

    @invariant()
    def both_tell_the_same(self) -> None:
        expected: dict[str, Marks] = {}
        for thread in THREADS:
            marks = self.marks.get(thread, Marks())
            names = tuple(name for name, of in self.names if of == thread)
            whole = Marks(tags=marks.tags, pinned=marks.pinned, note=marks.note, names=names)
            if whole != Marks():
                expected[thread] = whole
        for ours in (*self.shelves, shelf(self.fs)):
            assert ours.marks() == expected
            assert ours.damaged == 0


TestShelf = ShelfMachine.TestCase
TestShelf.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def _save_often(home: str, thread: str, moves: int) -> None:
    ours = Shelf(RealFileSystem(), Path(home), clock=SystemClock())
    for number in range(moves):
        ours.save(thread, "contested")
        ours.tag(thread, [f"{number}"])


def test_two_processes_lose_nothing_of_each_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    others = [context.Process(target=_save_often, args=(str(tmp_path), thread, 40)) for thread in (A, B)]
    for other in others:
        other.start()
    for other in others:
        other.join()
    ours = Shelf(RealFileSystem(), tmp_path, clock=SystemClock())
    tags = frozenset(str(number) for number in range(40))
    assert [ours.marks_of(thread).tags for thread in (A, B)] == [tags, tags]
    assert ours.thread_saved_as("contested") in (A, B)
    assert sum(bool(ours.marks_of(thread).names) for thread in (A, B)) == 1
    assert (ours.damaged, len(ours.path.read_bytes().splitlines())) == (0, 160)
