"""Whatever happens to a home, an index of it says what its files say."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from index_bench import IndexBench, agree

from clew.errors import ClewError
from clew.index import reconcile
from clew.store.indexing import IndexWorker
from clew.testing import ThreadBuilder

WHERE = st.integers(0, 30)


class IndexMachine(RuleBasedStateMachine):
    """Two programs with an index each open, one that keeps it, and a foreign one that knows nothing of it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="clew-index-"))
        self.bench = IndexBench(self.folder)
        self.bench.home.fs.make_folder(self.bench.home.path)
        self.stores = [self.bench.open(), self.bench.open()]
        self.count = 0

    def teardown(self) -> None:
        self.bench.close()
        shutil.rmtree(self.folder)

    def _files(self) -> list[Path]:
        return sorted(file.path for file in self.bench.home.files())

    def _one(self, where: int) -> Path | None:
        files = self._files()
        return files[where % len(files)] if files else None

    def _thread(self) -> ThreadBuilder:
        self.count += 1
        kinds = {"cwd": ["/tmp/demo", "/tmp/demo/a"][self.count % 2], "source": ["exec", "mcp"][self.count // 2 % 2]}
        return self.bench.thread(self.count, **kinds)

    @initialize(there=st.integers(0, 4), known=st.booleans())
    def some_threads(self, there: int, known: bool) -> None:
        for _ in range(there):
            self._thread().write(self.bench.home)
        if known:
            self.bench.keep()

    # -- programs that know of the index

    @rule(program=st.integers(0, 1), where=WHERE, away=st.booleans())
    def a_program_puts_a_thread_away_or_takes_it_out(self, program: int, where: int, away: bool) -> None:
        if (path := self._one(where)) is None:
            return
        catalog, thread_id = self.stores[program].catalog, self._id(path)
        # Another file may be in the way: then nothing was moved, or a part, as the files tell.
        with contextlib.suppress(ClewError, OSError):
            (catalog.archive if away else catalog.unarchive)(thread_id)

    @rule(program=st.integers(0, 1), where=WHERE, name=st.sampled_from(["Question 1 again", "minotaur", ""]))
    def a_program_names_a_thread(self, program: int, where: int, name: str) -> None:
        if (path := self._one(where)) is not None:
            self.stores[program].catalog.rename(self._id(path), name)

    @rule()
    def the_index_is_brought_up_to_date(self) -> None:
        self.bench.keep()

    @rule(steps=st.integers(0, 6))
    def the_work_on_it_ends_early(self, steps: int) -> None:
        left = iter(range(steps))
        IndexWorker(self.bench.home, self.bench.clew_home).run(stop=lambda: next(left, None) is None)

    @rule(program=st.integers(0, 1))
    def a_program_begins_anew(self, program: int) -> None:
        self.stores[program].close()
        self.stores[program] = self.bench.open()

    @rule()
    def somebody_deletes_the_index(self) -> None:
        for path in self.bench.clew_home.glob("index*"):
            path.unlink()

    # -- the foreign program

    @rule(shape=st.sampled_from(["new", "new", "compressed", "archived", "fork", "reverted"]), where=WHERE)
    def a_thread_is_written(self, shape: str, where: int) -> None:
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
            path.unlink()

    @rule(where=WHERE)
    def a_folder_is_deleted(self, where: int) -> None:
        if (path := self._one(where)) is not None:
            shutil.rmtree(path.parent)

    @rule(where=WHERE, folder=st.sampled_from(["sessions/odd", "sessions/2025/01/31", "archived_sessions"]))
    def a_file_is_moved(self, where: int, folder: str) -> None:
        path = self._one(where)
        # Of a thread in several folders, looking for it alone finds what lies near its time: not the index' matter.
        if path is not None and sum(self._id(other) == self._id(path) for other in self._files()) == 1:
            target = self.bench.home.path / folder
            target.mkdir(parents=True, exist_ok=True)
            path.replace(target / path.name)

    # -- what must hold

    @invariant()
    def both_say_what_the_disk_says(self) -> None:
        agree([store.catalog for store in self.stores], self.bench.plain)

    def _id(self, path: Path) -> str:
        file = self.bench.home.locate(path)
        assert file is not None
        return file.thread_id


@pytest.mark.parametrize("whole", [reconcile.WHOLE, 0], ids=["small-home", "large-home"])
def test_an_index_says_what_the_disk_says(whole: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "WHOLE", whole)
    chosen = settings(
        max_examples=12,
        stateful_step_count=10,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    run_state_machine_as_test(IndexMachine, settings=chosen)
