"""Stories of a home: two programs that know of its index, one of them killed again and again, and a foreign one."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Generator, Iterable
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from index_bench import IndexBench, answers, differ, listed
from programs import Doom, Killed, Nursery, Program, Refused, perform

from clew.errors import ClewError
from clew.index import reconcile
from clew.rollout import NameIndex
from clew.rollout.failpoints import FAIL_POINTS
from clew.store.queries import ListQuery
from clew.testing import ThreadBuilder

__all__ = ["IndexMachine"]

WHERE = st.integers(0, 30)
# Soon, most of the time: what is never reached kills nobody.
SOON = st.integers(1, 12) | st.integers(1, 60)
LOOKING = st.builds(Doom, st.just("call"), SOON) | st.builds(Doom, st.just("sql"), SOON | st.integers(1, 400))
DOOMS = LOOKING | st.builds(
    Doom, st.just("point"), st.integers(1, 2), st.sampled_from(sorted(FAIL_POINTS - {"after_create", "before_link"}))
)
CHANGES = st.sampled_from(["archive", "unarchive", "rename", "rename", "tag", "delete", "delete"])
NAMES = st.sampled_from(["Question 1 again", "minotaur", ""])


_V = TypeVar("_V")


class Kept(msgspec.Struct, frozen=True):
    """What was acknowledged: which threads are there and whether they are archived, how they are called, their tags,
    and which threads each entry of the trash holds, and whether those were archived."""

    there: dict[str, bool] = {}
    names: dict[str, str] = {}
    tags: dict[str, frozenset[str]] = {}
    trash: dict[str, dict[str, bool]] = {}


class _Change(msgspec.Struct, frozen=True):
    """What was begun; `family` are the threads it may have to do with."""

    do: str
    words: tuple[str, ...]
    family: frozenset[str] = frozenset()


class IndexMachine(RuleBasedStateMachine):
    """`here` is a program in this process, the other one a process of its own."""

    nursery: ClassVar[Nursery]
    totals: ClassVar[Counter[str]] = Counter[str]()

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="clew-index-"))
        self.bench = IndexBench(self.folder)
        self.bench.home.fs.make_folder(self.bench.home.path)
        self.here = self.bench.open()
        # A third program, which knows nothing of the index, says what is there and what lies in the trash.
        self.plain = self.bench.open("off")
        self.other = self._born()
        self.count = 0
        self.kept: Kept = Kept()
        self.ids: list[str] = []
        self.totals["stories"] += 1

    def teardown(self) -> None:
        self.other.kill()
        self.other.close()
        self.bench.close()
        shutil.rmtree(self.folder)

    def _born(self) -> Program:
        return self.nursery.start(self.bench.home.path, self.bench.clew_home, reconcile.WHOLE)

    def _files(self) -> list[Path]:
        return sorted(file.path for file in self.bench.home.files())

    def _one(self, where: int) -> Path | None:
        files = self._files()
        return files[where % len(files)] if files else None

    def _thread(self) -> ThreadBuilder:
        self.count += 1
        kinds: dict[str, Any] = {
            "cwd": ["/tmp/demo", "/tmp/demo/a"][self.count % 2],
            "source": ["exec", "mcp"][self.count // 2 % 2],
        }
        if self.count % 5 == 4 and self.ids:
            kinds["meta"] = {"parent_thread_id": self.ids[-1]}
        thread = self.bench.thread(self.count, **kinds)
        self.ids.append(thread.id)
        return thread

    @initialize(there=st.integers(0, 8), known=st.booleans())
    def some_threads(self, there: int, known: bool) -> None:
        with self._foreign():
            for _ in range(there):
                self._thread().write(self.bench.home)
        if known:
            self.bench.keep()

    # -- programs that know of the index

    @rule(other=st.booleans(), change=CHANGES, where=WHERE, name=NAMES)
    def a_program_changes_a_thread(self, other: bool, change: str, where: int, name: str) -> None:
        if (words := self._words(change, where, name)) is not None:
            self._changed(change, words, None, other=other)

    @rule(change=st.sampled_from(["rename", "tag"]), where=WHERE, name=NAMES, doom=DOOMS)
    def a_program_is_killed_while_it_marks_a_thread(self, change: str, where: int, name: str, doom: Doom) -> None:
        if (words := self._words(change, where, name)) is not None:
            self._changed(change, words, doom, other=True)

    @rule(change=st.sampled_from(["archive", "unarchive"]), where=WHERE, doom=DOOMS)
    def a_program_is_killed_while_it_moves_a_thread(self, change: str, where: int, doom: Doom) -> None:
        if (words := self._words(change, where)) is not None:
            self._changed(change, words, doom, other=True)

    @rule(where=WHERE, doom=DOOMS)
    def a_program_is_killed_while_it_deletes_a_thread(self, where: int, doom: Doom) -> None:
        if (words := self._words("delete", where)) is not None:
            self._changed("delete", words, doom, other=True)

    @precondition(lambda self: self.kept.trash)
    @rule(
        change=st.sampled_from(["restore", "restore", "empty"]),
        where=WHERE,
        other=st.booleans(),
        doom=st.none() | DOOMS,
    )
    def something_is_done_to_the_trash(self, change: str, where: int, other: bool, doom: Doom | None) -> None:
        entries = sorted(self.kept.trash)
        self._changed(change, (entries[where % len(entries)],), doom, other=other or doom is not None)

    @rule(doom=LOOKING, steps=st.integers(0, 400))
    def a_program_is_killed_while_it_works_on_the_index(self, doom: Doom, steps: int) -> None:
        self._doomed("index", str(steps), doom=doom)

    @rule(doom=LOOKING)
    def a_program_is_killed_while_it_answers(self, doom: Doom) -> None:
        self._doomed("answers", doom=doom)

    @rule(change=st.sampled_from(["index", "archive", "unarchive", "tag"]), where=WHERE, also=WHERE, name=NAMES)
    def two_programs_work_at_once(self, change: str, where: int, also: int, name: str) -> None:
        words = ("1000",) if change == "index" else self._words(change, where, name)
        named = self._words("rename", also, name)
        if words is None or named is None:
            return
        cut: list[_Change] = []
        mine, theirs = self._change("rename", named), self._change(change, words)
        self.other.begin(change, *words)
        try:
            perform(self.here, self.bench.home, self.bench.clew_home, "rename", named)
            self._promise("rename", named, None)
        except (ClewError, OSError):
            cut.append(mine)
        try:
            self._promise(change, words, self.other.end())
        except Refused:
            cut.append(theirs)
        self._unknown(*cut)

    @rule()
    def the_index_is_brought_up_to_date(self) -> None:
        self.bench.keep()

    @rule(steps=st.integers(0, 6))
    def the_work_on_it_ends_early(self, steps: int) -> None:
        perform(self.here, self.bench.home, self.bench.clew_home, "index", (str(steps),))

    @rule()
    def a_program_begins_anew(self) -> None:
        self.here.close()
        self.here = self.bench.open()

    @rule()
    def a_program_is_killed_and_begins_anew(self) -> None:
        self.other.kill()
        self._again()

    @rule()
    def somebody_deletes_the_index(self) -> None:
        for path in self.bench.clew_home.glob("index*"):
            path.unlink()

    # -- the foreign program

    @rule(shape=st.sampled_from(["new", "new", "compressed", "archived", "fork", "reverted"]), where=WHERE)
    def a_thread_is_written(self, shape: str, where: int) -> None:
        with self._foreign():
            thread = self._thread()
            if shape == "fork":
                thread.write(self.bench.home)
                thread = thread.fork(before=0).turn(f"Question {self.count} once more?", "Yes.")
            elif shape == "reverted":
                thread = thread.turn("More?", "Yes.").revert(1)
            thread.write(self.bench.home, archived=shape == "archived", compressed=shape == "compressed")

    @rule(where=WHERE)
    def a_turn_is_added(self, where: int) -> None:
        if (path := self._one(where)) is not None and path.suffix == ".jsonl":
            with path.open("ab") as file:
                file.write(
                    b'{"timestamp":"2026-07-02T12:00:00.123Z","type":"event_msg","payload":{"type":"task_started",'
                    b'"turn_id":"019f1c3a-7b1e-7c44-9d0e-6f5b0c2a1d11"}}\n'
                )

    @rule(where=WHERE, part=st.integers(0, 9))
    def a_file_is_cut(self, where: int, part: int) -> None:
        if (path := self._one(where)) is not None:
            os.truncate(path, path.stat().st_size * part // 10)

    @rule(where=WHERE, other=WHERE)
    def a_file_is_replaced_by_what_another_one_holds(self, where: int, other: int) -> None:
        path, source = self._one(where), self._one(other)
        if path is not None and source is not None and path.suffix == source.suffix:
            new = path.with_name("new.tmp")
            new.write_bytes(source.read_bytes())
            new.replace(path)

    @rule(where=WHERE)
    def a_file_is_deleted(self, where: int) -> None:
        if (path := self._one(where)) is not None:
            with self._foreign([path]):
                path.unlink()

    @rule(where=WHERE)
    def a_folder_is_deleted(self, where: int) -> None:
        if (path := self._one(where)) is not None:
            with self._foreign(one for one in self._files() if path.parent in one.parents):
                shutil.rmtree(path.parent)

    @rule(where=WHERE, folder=st.sampled_from(["sessions/odd", "sessions/2025/01/31", "archived_sessions"]))
    def a_file_is_moved(self, where: int, folder: str) -> None:
        path = self._one(where)
        # Of a thread in several folders, looking for it alone finds what lies near its time: not the index' matter.
        if path is not None and sum(self._id(other) == self._id(path) for other in self._files()) == 1:
            with self._foreign([path]):
                target = self.bench.home.path / folder
                target.mkdir(parents=True, exist_ok=True)
                path.replace(target / path.name)

    # -- what must hold

    @invariant()
    def both_say_what_the_disk_says(self) -> None:
        self.totals["checks"] += 1
        expected = answers(self.bench.plain)
        differ(answers(self.here.catalog), expected)
        differ(self.other.do("answers"), expected)

    @invariant()
    def all_that_was_acknowledged_is_so(self) -> None:
        assert self._seen() == self.kept

    def _seen(self) -> Kept:
        """What is so on the disk, when what killed programs began with the trash is completed."""
        trash = self.plain.keeper.trash()
        there = {one.id: one for one in listed(self.bench.plain, ListQuery(archived=None))}
        return Kept(
            there={thread_id: one.archived for thread_id, one in there.items()},
            names=self._names(),
            tags={thread_id: marks.tags for thread_id, marks in self.plain.shelf.marks().items() if marks.tags},
            trash={entry.id: {one.id: one.archived for one in entry.threads} for entry in trash},
        )

    def _names(self) -> dict[str, str]:
        return {thread_id: name for thread_id, name in NameIndex(self.bench.home).names().items() if name}

    # -- changes

    def _words(self, change: str, where: int, name: str = "") -> tuple[str, ...] | None:
        path = self._one(where)
        if path is None:
            return None
        thread_id = self._id(path)
        if change == "rename":
            return thread_id, name
        return (thread_id, f"tag {where % 3}") if change == "tag" else (thread_id,)

    def _changed(self, change: str, words: tuple[str, ...], doom: Doom | None, *, other: bool) -> None:
        begun = self._change(change, words)
        try:
            if other:
                done = self.other.do(change, *words, doom=doom)
            else:
                done = perform(self.here, self.bench.home, self.bench.clew_home, change, words)
        except Killed:
            self.totals[f"killed: {change}"] += 1
            self._again()
            # Before anybody completes what was cut off.
            self.both_say_what_the_disk_says()
            self._unknown(begun)
        except (Refused, ClewError, OSError):
            # Another file may be in the way: then nothing was moved, or a part, as the files tell.
            self._unknown(begun)
        else:
            self._promise(change, words, done)

    def _change(self, do: str, words: tuple[str, ...]) -> _Change:
        family = {words[0]}
        if do in ("archive", "unarchive", "delete"):
            family.update(self.bench.plain.descendants(words[0]))
        return _Change(do, words, frozenset(family))

    def _doomed(self, do: str, *words: str, doom: Doom) -> None:
        try:
            self.other.do(do, *words, doom=doom)
        except Killed:
            self.totals[f"killed: {do}"] += 1
            self._again()

    def _again(self) -> None:
        self.other.close()
        self.other = self._born()

    def _promise(self, change: str, words: tuple[str, ...], done: Any) -> None:
        """It was acknowledged."""
        kept, thread_id = self.kept, words[0]
        match change:
            case "archive" | "unarchive":
                moved = dict.fromkeys([thread_id, *done], change == "archive")
                self.kept = msgspec.structs.replace(kept, there=kept.there | moved)
            case "rename":
                self.kept = msgspec.structs.replace(kept, names=_named(kept.names, *words))
            case "tag":
                tags = kept.tags.get(thread_id, frozenset()) | {words[1]}
                self.kept = msgspec.structs.replace(kept, tags=kept.tags | {thread_id: tags})
            case "delete":
                entry, *gone = done
                trash = {**kept.trash, entry: {one: kept.there[one] for one in gone}}
                self.kept = msgspec.structs.replace(kept, there=_without(kept.there, gone), trash=trash)
            case "restore":
                back = {one: away for entry in done for one, away in kept.trash[entry].items()}
                self.kept = msgspec.structs.replace(kept, there=kept.there | back, trash=_without(kept.trash, done))
            case "empty":
                gone = [one for entry in done for one in kept.trash[entry]]
                self.kept = msgspec.structs.replace(
                    kept, tags=_without(kept.tags, gone), trash=_without(kept.trash, done)
                )
            case _:
                assert change == "index", change

    def _unknown(self, *cut: _Change) -> None:
        """These were begun and not acknowledged: of each, nothing was done, or it is done now, and nothing else."""
        seen = self._seen()
        for change in cut:
            self.kept = _as_far_as(self.kept, seen, change)
        assert seen == self.kept, (seen, cut)

    @contextlib.contextmanager
    def _foreign(self, paths: Iterable[Path] = ()) -> Generator[None]:
        """Threads of these files, and those that the foreign program makes, are as the disk says afterwards."""
        touched = {self._id(path) for path in paths}
        yield
        seen, kept = self._seen(), self.kept
        there = _without(kept.there, touched)
        there |= {one: away for one, away in seen.there.items() if one in touched or one not in kept.there}
        self.kept = msgspec.structs.replace(kept, there=there)

    def _id(self, path: Path) -> str:
        file = self.bench.home.locate(path)
        assert file is not None
        return file.thread_id


def _as_far_as(kept: Kept, seen: Kept, change: _Change) -> Kept:
    """What was kept, with as much of a change as is seen and as it may have brought about."""
    first = change.words[0]
    match change.do:
        case "archive" | "unarchive":
            moved = {one: seen.there[one] for one in change.family if one in kept.there and one in seen.there}
            return msgspec.structs.replace(kept, there=kept.there | moved)
        case "rename":
            named = _named(kept.names, *change.words)
            return msgspec.structs.replace(kept, names=named) if seen.names == named else kept
        case "tag":
            tagged = kept.tags | {first: kept.tags.get(first, frozenset()) | {change.words[1]}}
            return msgspec.structs.replace(kept, tags=tagged) if seen.tags == tagged else kept
        case "delete":
            gone = {one: away for one, away in kept.there.items() if one in change.family and one not in seen.there}
            trash = {entry: threads for entry, threads in seen.trash.items() if entry not in kept.trash}
            if not gone or list(trash.values()) != [gone]:
                return kept
            return msgspec.structs.replace(kept, there=_without(kept.there, gone), trash=kept.trash | trash)
        case "restore" | "empty":
            done = [entry for entry in kept.trash if entry not in seen.trash]
            threads = {one: away for entry in done for one, away in kept.trash[entry].items()}
            trash = _without(kept.trash, done)
            if change.do == "restore":
                return msgspec.structs.replace(kept, there=kept.there | threads, trash=trash)
            # The marks of what is gone go last.
            tags = {one: tags for one, tags in kept.tags.items() if one not in threads or one in seen.tags}
            return msgspec.structs.replace(kept, tags=tags, trash=trash)
        case _:
            assert change.do == "index", change
            return kept


def _named(names: dict[str, str], thread_id: str, name: str) -> dict[str, str]:
    return {**names, thread_id: name} if name else _without(names, [thread_id])


def _without(table: dict[str, _V], keys: Iterable[str]) -> dict[str, _V]:
    gone = set(keys)
    return {key: value for key, value in table.items() if key not in gone}
