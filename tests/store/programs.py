"""Programs in processes of their own that take orders on one home, and die in the middle of them when they are told to.

`Nursery` starts a Python once, with everything loaded, which makes a program out of itself for a few milliseconds each.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import weakref
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, Literal

import apsw
import msgspec
from index_bench import answers

from clew.clock import SystemClock
from clew.errors import ClewError, Owner
from clew.ids import SystemIds
from clew.index import reconcile
from clew.rollout import FailPoints, FileSystem, Home, RealFileSystem
from clew.store import LocalStore
from clew.store.index_worker import IndexWorker

__all__ = ["Doom", "Killed", "Nursery", "Program", "Refused", "perform"]

PATIENCE = 20.0
SQL_STEPS = 20
"""Steps of SQLite's machine between two counts."""


class Doom(msgspec.Struct, frozen=True):
    """Where a program is killed: at the `at`-th hit of a fail point, call of the file system, or count of SQLite."""

    where: Literal["point", "call", "sql"]
    at: int
    point: str = ""


class Order(msgspec.Struct, frozen=True):
    do: str
    words: tuple[str, ...] = ()
    doom: Doom | None = None


class Killed(Exception):
    """The program died before it answered."""


class Refused(Exception):
    """The program could not do it: the name of its error, and its text."""


def perform(store: LocalStore, home: Home, clew_home: Path, do: str, words: Sequence[str]) -> Any:
    """Carry an order out. What comes back can be written as JSON."""
    match do, words:
        case "archive", [thread_id]:
            return list(store.keeper.archive(thread_id))
        case "unarchive", [thread_id]:
            return list(store.keeper.unarchive(thread_id))
        case "rename", [thread_id, name]:
            return store.catalog.rename(thread_id, name)
        case "tag", [thread_id, tag]:
            return sorted(store.shelf.tag(thread_id, [tag]).tags)
        case "delete", [thread_id]:
            trashed = store.keeper.delete([thread_id])
            return [trashed.id, *trashed.thread_ids]
        case "restore", [trash_id]:
            return [entry.id for entry in store.keeper.restore(trash_id)]
        case "empty", [trash_id]:
            return [entry.id for entry in store.keeper.empty([trash_id])]
        case "index", [steps]:
            left = iter(range(int(steps)))
            return IndexWorker(home, clew_home).run(stop=lambda: next(left, None) is None).complete
        case "answers", []:
            return answers(store.catalog)
        case _:
            raise AssertionError(f"nobody knows how to {do} {words}")


class Program:
    """One that runs. It does one thing after the other."""

    def __init__(self, line: socket.socket) -> None:
        self._line = line
        self._file = line.makefile("rwb")
        self.pid = int(self._file.readline())

    def begin(self, do: str, *words: str, doom: Doom | None = None) -> None:
        self._file.write(msgspec.json.encode(Order(do, words, doom)) + b"\n")
        self._file.flush()

    def end(self) -> Any:
        """What came of what was begun. Raises `Killed`, `Refused`."""
        try:
            told = self._file.readline()
        except ConnectionResetError:
            told = b""
        if not told.endswith(b"\n"):
            raise Killed
        answer: dict[str, Any] = msgspec.json.decode(told)
        if "refused" in answer:
            raise Refused(*answer["refused"])
        assert "failed" not in answer, answer["failed"]
        return answer["done"]

    def do(self, do: str, *words: str, doom: Doom | None = None) -> Any:
        self.begin(do, *words, doom=doom)
        return self.end()

    def kill(self) -> None:
        """SIGKILL; it is gone when this returns."""
        os.kill(self.pid, signal.SIGKILL)
        while self._file.read(1 << 16):
            pass

    def close(self) -> None:
        self._line.close()
        self._file.close()


class Nursery:
    """Where programs come from."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="clew-line-")
        self._path = Path(self._folder.name, "line")
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self._path))
        self._listener.listen()
        self._listener.settimeout(PATIENCE)
        self._process = subprocess.Popen([sys.executable, __file__, self._path], stdin=subprocess.PIPE, text=True)

    def start(self, home: Path, clew_home: Path, whole: int = reconcile.WHOLE) -> Program:
        """`whole`: see `reconcile.WHOLE`."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{home}\t{clew_home}\t{whole}\n")
        self._process.stdin.flush()
        line, _ = self._listener.accept()
        line.settimeout(PATIENCE)
        return Program(line)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(PATIENCE)
        self._listener.close()
        self._folder.cleanup()


# -- in the process itself


class _Fate:
    """What ends this process. Counts what happens while it is armed."""

    def __init__(self) -> None:
        self.fail = FailPoints()
        self._left: dict[str, int] = {}
        self._connections = weakref.WeakSet[Any]()
        apsw.connection_hooks.append(self._connected)

    def arm(self, doom: Doom | None) -> None:
        self._left.clear()
        self.fail.hits.clear()
        if doom is not None and doom.where == "point":
            self.fail.on(doom.point, _die, at=doom.at)
        elif doom is not None:
            self._left[doom.where] = doom.at
        for connection in self._connections:
            self._watch(connection)

    def disarm(self, doom: Doom | None) -> None:
        if doom is not None and doom.where == "point":
            self.fail.off(doom.point)
        self._left.clear()

    def count(self, what: str) -> None:
        if what in self._left:
            self._left[what] -= 1
            if self._left[what] <= 0:
                _die()

    def _connected(self, connection: Any) -> None:
        self._connections.add(connection)
        self._watch(connection)

    def _watch(self, connection: Any) -> None:
        connection.set_progress_handler(self._counted if "sql" in self._left else None, SQL_STEPS)

    def _counted(self) -> bool:
        self.count("sql")
        return False


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


_CALLS = frozenset(name for name in vars(FileSystem) if not name.startswith("_"))


class _CountedFileSystem(RealFileSystem):
    """The disk, for a process that dies at one of its calls, before it is done."""

    def __init__(self, fate: _Fate) -> None:
        super().__init__()
        self._fate = fate

    def __getattribute__(self, name: str) -> Any:
        if name in _CALLS:
            self._fate.count("call")
        return super().__getattribute__(name)


def _serve(line: Path, codex_home: Path, clew_home: Path) -> None:
    fate, clock = _Fate(), SystemClock()
    fs = _CountedFileSystem(fate)
    home = Home(fs, codex_home)
    store = LocalStore(
        fs,
        codex_home,
        clew_home,
        clock=clock,
        ids=SystemIds(clock),
        owner=Owner("other", os.getpid()),
        fail=fate.fail,
        index="use",
    )
    with closing(store), socket.socket(socket.AF_UNIX) as parent:
        parent.connect(str(line))
        with parent.makefile("rwb") as file:
            file.write(f"{os.getpid()}\n".encode())
            file.flush()
            for text in file:
                order = msgspec.json.decode(text, type=Order)
                fate.arm(order.doom)
                try:
                    told: dict[str, Any] = {"done": perform(store, home, clew_home, order.do, order.words)}
                except (ClewError, OSError) as error:
                    told = {"refused": [type(error).__name__, str(error)]}
                except Exception as error:
                    told = {"failed": repr(error)}
                fate.disarm(order.doom)
                file.write(msgspec.json.encode(told) + b"\n")
                file.flush()


def _nurse(line: Path) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the dead
    for text in iter(sys.stdin.readline, ""):
        codex_home, clew_home, whole = text.rstrip("\n").split("\t")
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            reconcile.WHOLE = int(whole)
            try:
                _serve(line, Path(codex_home), Path(clew_home))
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(0)


if __name__ == "__main__":
    _nurse(Path(sys.argv[1]))
