"""Stories of the trash: two programs on one simulated disk, killed and without power at any step, also while the other
one is in the middle of something."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial
from typing import Any, ClassVar

import anyio
import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from keeping_bench import CLEW, CODEX, ME

from clew.clock import SystemClock
from clew.config.retention import Retention, RetentionRule
from clew.errors import ClewError
from clew.ids import SystemIds
from clew.rollout import FailPoints, Home
from clew.store import LocalStore
from clew.store.keeper import Keeper
from clew.store.trash import TrashedThreads
from clew.testing import MemoryFileSystem, ThreadBuilder
from clew.testing.disk import ProgramKilled
from clew.testing.store_bench import fresh

__all__ = ["TrashMachine"]

WHICH = st.integers(0, 30)
POINTS = st.sampled_from(["before_write", "after_sync", "after_rename", "before_unlink"])
MOVES = ("archive", "unarchive", "delete", "delete with forks", "restore", "empty")


Effect = Callable[[], None]


class Trouble(msgspec.Struct, frozen=True):
    """A program is killed at its `at`-th call; with `power`, that is lost, and `seed` says what stays of the rest."""

    at: int
    power: bool = False
    seed: int | None = None


TROUBLES = st.none() | st.builds(
    Trouble, st.integers(1, 25) | st.integers(1, 120), st.booleans(), st.none() | st.integers(0, 99)
)


class Meanwhile(msgspec.Struct, frozen=True):
    """What the other program does when this one comes to a fail point for the `at`-th time."""

    point: str
    at: int
    do: str
    which: int


MEANWHILE = st.none() | st.builds(Meanwhile, POINTS, st.integers(1, 4), st.sampled_from([*MOVES, "fork"]), WHICH)


class Program:
    """A clew with a life of its own on the disk."""

    def __init__(self, disk: MemoryFileSystem) -> None:
        self.fs, self.fail, clock = disk.program(), FailPoints(), SystemClock()
        self.store = LocalStore(self.fs, CODEX, CLEW, clock=clock, ids=SystemIds(clock), owner=ME, fail=self.fail)

    @property
    def keeper(self) -> Keeper:
        return self.store.keeper


class TrashMachine(RuleBasedStateMachine):
    """A thread is `active`, `archived`, in an entry of the trash (its id) or `gone`, and nowhere else."""

    totals: ClassVar[Counter[str]] = Counter[str]()

    def __init__(self) -> None:
        super().__init__()
        self.disk = MemoryFileSystem()
        self.home = Home(self.disk, CODEX)
        self.programs = [Program(self.disk), Program(self.disk)]
        self.state: dict[str, str] = {}
        self.contents: dict[str, list[bytes]] = {}
        self.bases: dict[str, str] = {}
        self.entries: dict[str, TrashedThreads] = {}
        self.pinned: set[str] = set()
        self.doubtful: set[str] = set()
        self.builders: list[ThreadBuilder] = []
        self.ids = SystemIds(SystemClock())
        self.totals["stories"] += 1

    def teardown(self) -> None:
        for program in self.programs:
            program.store.close()

    # -- what people have

    @initialize(
        shapes=st.lists(st.sampled_from(["plain", "child", "reverted", "packed", "fork"]), min_size=1, max_size=6)
    )
    def there_are_threads(self, shapes: list[str]) -> None:
        for shape in shapes:
            self._write(shape, 0)

    @rule(shape=st.sampled_from(["plain", "child", "reverted", "packed", "fork"]), which=WHICH)
    def a_thread_appears(self, shape: str, which: int) -> None:
        self._write(shape, which)

    def _write(self, shape: str, which: int) -> None:
        number = len(self.state)
        there = [one for one in self.builders if self.state[one.id] in ("active", "archived")]
        parent = there[which % len(there)] if there else None
        meta: dict[str, Any] = {"meta": {"parent_thread_id": parent.id}} if shape == "child" and parent else {}
        thread = fresh(number, **meta).turn("First?", "One.").turn("Second?", "Two.")
        if shape == "reverted":
            thread = thread.revert(1).turn("Better?", "OK.")
        if shape == "fork" and parent is not None:
            thread = parent.fork(before=1).turn("Otherwise?", "So.")
            self.bases[thread.id] = parent.id
        thread.write(self.home, compressed=shape == "packed")
        self.builders.append(thread)
        self._appeared(thread.id)

    def _appeared(self, thread_id: str) -> None:
        self.state[thread_id] = "active"
        files = self.home.find(thread_id)
        assert files is not None
        self.contents[thread_id] = [self.disk.read_bytes(file.path) for file in files.segments]

    # -- what programs do

    @precondition(lambda self: self.state)
    @rule(
        side=st.integers(0, 1),
        do=st.sampled_from([*MOVES, "delete", "delete"]),
        which=WHICH,
        trouble=TROUBLES,
        meanwhile=MEANWHILE,
    )
    def a_program_moves_threads(
        self, side: int, do: str, which: int, trouble: Trouble | None, meanwhile: Meanwhile | None
    ) -> None:
        self._run(side, do, which, trouble, meanwhile)

    @precondition(lambda self: self.state)
    @rule(
        side=st.integers(0, 1),
        do=st.sampled_from(["retention archive", "retention trash"]),
        newest=st.integers(0, 2),
        trouble=TROUBLES,
        meanwhile=MEANWHILE,
    )
    def rules_are_applied(
        self, side: int, do: str, newest: int, trouble: Trouble | None, meanwhile: Meanwhile | None
    ) -> None:
        self._run(side, do, newest, trouble, meanwhile)

    @precondition(lambda self: self.state)
    @rule(side=st.integers(0, 1), which=WHICH)
    def a_thread_is_pinned_or_not(self, side: int, which: int) -> None:
        thread_id = self._one(which, self.state)
        shelf = self.programs[side].store.shelf
        (shelf.unpin if thread_id in self.pinned else shelf.pin)(thread_id)
        self.pinned ^= {thread_id}

    @precondition(lambda self: self.state)
    @rule(side=st.integers(0, 1), which=WHICH)
    def a_thread_is_forked(self, side: int, which: int) -> None:
        effects: list[Effect] = []
        self._act(self.programs[side], "fork", which, effects)
        for effect in effects:
            effect()

    @rule(seed=st.none() | st.integers(0, 99))
    def the_power_is_lost(self, seed: int | None) -> None:
        self.disk.crash(seed)
        self._begin_anew()

    # -- how it is done

    def _run(self, side: int, do: str, which: int, trouble: Trouble | None, meanwhile: Meanwhile | None) -> None:
        program, other = self.programs[side], self.programs[1 - side]
        effects: list[Effect] = []
        open_ends: list[str] = []
        if meanwhile is not None:
            program.fail.hits.clear()

            def act() -> None:
                program.fail.off(meanwhile.point)
                self.totals["meanwhile"] += 1
                self._act(other, meanwhile.do, meanwhile.which, effects)

            program.fail.on(meanwhile.point, act, at=meanwhile.at)
        if trouble is not None:
            program.fs.kill_at(trouble.at)
        before = dict(self.state)
        try:
            self._act(program, do, which, effects)
        except ProgramKilled:
            self.totals[f"killed: {do}"] += 1
            open_ends.append(do)
            if trouble is not None and trouble.power:
                self.disk.crash(trouble.seed)
                self._begin_anew()
            else:
                self.programs[side] = Program(self.disk)
        else:
            program.fs.kill_at(10**9)
        if meanwhile is not None:
            program.fail.off(meanwhile.point)
        for effect in effects:
            effect()
        self._take_what_was_left_open(open_ends, before)

    def _begin_anew(self) -> None:
        # Nobody said of these that they were put away or taken out: without power, that may not be so any more.
        seen, _ = self._seen()
        for one in self.doubtful:
            assert seen[one] in ("active", "archived")
            self.state[one] = seen[one]
        self.doubtful.clear()
        self.programs = [Program(self.disk), Program(self.disk)]

    def _act(self, program: Program, do: str, which: int, effects: list[Effect]) -> None:
        """Do it, and add what it changes as soon as it is acknowledged. Refusals change nothing."""
        keeper = program.keeper
        with suppress(ClewError):
            match do:
                case "archive" | "unarchive":
                    wanted = self._one(which, self.state)
                    moved = (keeper.archive if do == "archive" else keeper.unarchive)(wanted)
                    effects.append(partial(self._moved, wanted, moved, "archived" if do == "archive" else "active"))
                case "delete" | "delete with forks":
                    trashed = keeper.delete([self._one(which, self.state)], with_forks=do != "delete")
                    effects.append(partial(self._deleted, trashed))
                case "restore" if self.entries:
                    restored = keeper.restore(self._one(which, self.entries))
                    effects += [partial(self._restored, entry) for entry in restored]
                case "empty" if self.entries:
                    emptied = keeper.empty([self._one(which, self.entries)])
                    effects += [partial(self._emptied, entry) for entry in emptied]
                case "retention archive" | "retention trash":
                    self._retention(keeper, do, which, effects)
                case "fork":
                    source, new = self._one(which, self.state), self.ids.uuid7()
                    anyio.run(program.store.fork, source, new)
                    effects.append(partial(self._forked, source, new))
                case _:
                    pass

    def _retention(self, keeper: Keeper, do: str, newest: int, effects: list[Effect]) -> None:
        action = "archive" if do == "retention archive" else "trash"
        rule = RetentionRule(name="old", action=action, older_than=3600)
        due, _ = keeper.due(Retention(rules=(rule,), keep_newest=newest))
        for one in due:
            if keeper.do(one).failed is not None:
                continue
            if action == "archive":
                effects.append(partial(self._moved, one.thread.id, one.also, "archived"))
            else:
                entry = next(entry for entry in keeper.trash() if one.thread.id in entry.thread_ids)
                effects.append(partial(self._deleted, entry))

    def _one(self, which: int, table: dict[str, Any]) -> str:
        return sorted(table)[which % len(table)]

    def _moved(self, wanted: str, also: Sequence[str], state: str) -> None:
        self.doubtful -= {wanted, *also}
        there = [one for one in also if self.state[one] in ("active", "archived")]
        self.state.update(dict.fromkeys([wanted, *there], state))

    def _deleted(self, entry: TrashedThreads) -> None:
        assert not self.pinned & set(entry.thread_ids)
        self.entries[entry.id] = entry
        self.doubtful -= set(entry.thread_ids)
        self.state.update(dict.fromkeys(entry.thread_ids, entry.id))

    def _restored(self, entry: TrashedThreads) -> None:
        del self.entries[entry.id]
        self.state.update({one.id: "archived" if one.archived else "active" for one in entry.threads})

    def _emptied(self, entry: TrashedThreads) -> None:
        del self.entries[entry.id]
        self.state.update(dict.fromkeys(entry.thread_ids, "gone"))
        self.pinned -= set(entry.thread_ids)

    def _forked(self, source: str, new: str) -> None:
        self.bases[new] = source
        self._appeared(new)

    def _take_what_was_left_open(self, open_ends: Sequence[str], before: dict[str, str]) -> None:
        """What was cut off happened or did not, each family as a whole, and nothing else happened."""
        for do in open_ends:
            seen, entries = self._seen()
            changed = {one for one in self.state if seen.get(one, "gone") != self.state[one]}
            if do in ("archive", "retention archive", "unarchive"):
                to = "active" if do == "unarchive" else "archived"
                assert all(seen[one] == to for one in changed), (do, seen)
                self.state.update(dict.fromkeys(changed, to))
                self.doubtful |= changed
                continue
            for entry in entries.values():
                if entry.id not in self.entries:
                    assert do in ("delete", "delete with forks", "retention trash"), do
                    assert set(entry.thread_ids) <= changed
                    changed -= set(entry.thread_ids)
                    self._deleted(entry)
            for entry in list(self.entries.values()):
                if entry.id not in entries:
                    assert do in ("restore", "empty"), do
                    changed -= set(entry.thread_ids)
                    (self._restored if do == "restore" else self._emptied)(entry)
            assert not changed, (do, seen)
        assert before.keys() <= self.state.keys()

    def _seen(self) -> tuple[dict[str, str], dict[str, TrashedThreads]]:
        """Where every thread is, and what is in the trash, as a program says that was just started."""
        with closing(Program(self.disk).store) as store:
            entries = {entry.id: entry for entry in store.keeper.trash()}
            seen = {files.thread_id: "archived" if files.archived else "active" for files in self.home.threads()}
            for entry in entries.values():
                for thread_id in entry.thread_ids:
                    assert thread_id not in seen, f"{thread_id} is in two places"
                    seen[thread_id] = entry.id
            return seen, entries

    # -- what must hold

    @invariant()
    def every_thread_is_in_one_place(self) -> None:
        self.totals["checks"] += 1
        seen, entries = self._seen()
        assert seen == {one: state for one, state in self.state.items() if state != "gone"}
        assert entries == self.entries

    @invariant()
    def nothing_of_any_thread_is_lost(self) -> None:
        for thread_id, state in self.state.items():
            if state in ("active", "archived"):
                files = self.home.find(thread_id)
                assert files is not None
                assert [self.disk.read_bytes(file.path) for file in files.segments] == self.contents[thread_id]
        kept = [self.disk.read_bytes(CLEW / "trash" / one.name) for one in self._kept()]
        trashed = [one for one, state in self.state.items() if state in self.entries]
        # A file that a killed program left under two names has both there, too.
        assert {*kept} == {content for one in trashed for content in self.contents[one]}

    def _kept(self) -> Sequence[Any]:
        try:
            return self.disk.scan(CLEW / "trash")
        except FileNotFoundError:
            return []

    @invariant()
    def no_thread_is_without_what_it_inherits_from(self) -> None:
        for thread_id, base in self.bases.items():
            state, of_base = self.state[thread_id], self.state[base]
            if state in ("active", "archived"):
                assert of_base in ("active", "archived"), (thread_id, base)
            elif state != "gone":
                assert of_base != "gone", (thread_id, base)
