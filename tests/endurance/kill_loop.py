"""Kill the MCP server again and again at random moments, and see that nothing that was answered is lost or doubled.

    python tests/endurance/kill_loop.py --kills 200 --seed 7

Each life of the server starts where the last one was killed: the thread that was being written gets a reply that must
be answered, then one to three clients talk until a SIGKILL ends the whole process tree. Some lives are ended while the
server still starts, with a call already waiting on its standard input. After each kill the logs and all requests that
the model got are held against a ledger of what was asked and answered. In the end every thread goes on under the real
Codex too, where it is installed. The seed fixes the
clients, threads, commands and delays; at which instruction a kill hits stays up to the machine.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ledger import Ledger, Lost

from drivers import (
    CLEW,
    Act,
    Died,
    Endpoint,
    Peer,
    PeerMissing,
    Run,
    Say,
    Server,
    World,
    answer,
    find_peer,
    process_tree,
    serving,
    sigkill,
)

__all__ = ["KillLoop", "Report"]

_THREADS = 4
_PEER = "0.169.0"
_STARTUP_LIVES = 0.2
"""Share of the lives that end while the server starts."""


@dataclass
class Report:
    """What happened."""

    seed: int
    kills: Counter[str] = field(default_factory=Counter[str])
    """Kills by what was going on: `command`, `turn`, `idle`, `start`."""
    answered: int = 0
    recorded_unanswered: int = 0
    """Replies that nobody answered and that stand in the log all the same."""
    commands: int = 0
    seconds: float = 0.0

    def __str__(self) -> str:
        moments = ", ".join(f"{count} {moment}" for moment, count in sorted(self.kills.items()))
        return (
            f"{self.kills.total()} kills ({moments}) in {self.seconds:.0f} s, seed {self.seed}: "
            f"{self.answered} replies answered, none lost, none doubled; "
            f"{self.recorded_unanswered} unanswered ones were recorded; {self.commands} commands ran, none twice"
        )


class KillLoop:
    """`root` is an empty folder. `command` is the server."""

    def __init__(self, root: Path, seed: int, command: Sequence[str] = (*CLEW, "mcp")) -> None:
        self.report = Report(seed)
        self._random = random.Random(seed)
        self._command = tuple(command)
        self._endpoint = Endpoint(self._script)
        self._world = World(root, self._endpoint.url)
        self._ledger = Ledger()
        self._threads: list[str] = []
        self._texts = 0
        self._open = 0
        self._checked = 0
        self._seen_marks = 0
        self._sizes: dict[str, int] = {}
        self._hit: set[str] = set()
        """Threads that were being written when the last kill came: they must go on first."""

    def run(self, kills: int, tell: Callable[[str], None] | None = None, peer: Peer | None = None) -> Report:
        """Kill so many times, then let every thread go on once more: here, under the real Codex if there is one, and
        here again. Raises `Lost`."""
        begin = time.monotonic()
        with self._endpoint:
            for number in range(1, kills + 1):
                if self._threads and self._random.random() < _STARTUP_LIVES:
                    self._life_cut_short()
                else:
                    anyio.run(self._life)
                self._check()
                if tell is not None and number % 20 == 0:
                    tell(f"{number} kills, {self._ledger.acknowledged} replies answered")
            self._hit.update(self._threads)
            anyio.run(self._last_life)
            self._check()
            if peer is not None:
                self._let_go_on(peer)
                anyio.run(self._last_life)
                self._check()
        self.report.answered = self._ledger.acknowledged
        self.report.recorded_unanswered = sum(
            len(self._ledger.check_log(thread_id, self._lines(thread_id))) for thread_id in self._threads
        )
        self.report.seconds = time.monotonic() - begin
        return self.report

    # -- lives

    async def _life(self) -> None:
        """Start a server, see that the thread it was killed in goes on, talk, kill it in the middle."""
        async with serving(self._world, self._command) as server:
            await self._recover(server)
            delay = self._random.choice((0.0, 0.02, 0.1, 0.3, 0.6)) * self._random.random()
            async with anyio.create_task_group() as clients:
                for _ in range(self._random.choice((1, 1, 2, 3))):
                    clients.start_soon(self._talk, server)
                await anyio.sleep(delay)
                self._note_moment(server.pid)
                server.kill()

    async def _last_life(self) -> None:
        async with serving(self._world, self._command) as server:
            await self._recover(server)

    def _let_go_on(self, peer: Peer) -> None:
        for thread_id in self._threads:
            text = self._new_text()
            self._ledger.expect(thread_id, text)
            done = peer.exec(self._world, text, resume=thread_id)
            if done.thread_id != thread_id:
                raise Lost(f"Codex went on with {done.thread_id} instead of {thread_id}")
            self._ledger.answered(thread_id, text, self._endpoint.requests[self._checked :])
        self._hit.update(self._threads)

    async def _recover(self, server: Server) -> None:
        for thread_id in sorted(self._hit):
            await self._reply(server, thread_id)
        self._hit.clear()

    def _life_cut_short(self) -> None:
        """Kill a server that is still starting and has a call waiting."""
        thread_id, text = self._random.choice(self._threads), self._new_text()
        self._ledger.expect(thread_id, text)
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "hasty", "version": "1"}}
        call = {"name": "codex-reply", "arguments": {"threadId": thread_id, "prompt": text}}
        messages = (
            {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello},
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": call},
        )
        with (self._world.root / "server.stderr").open("ab") as errors:
            process = subprocess.Popen(
                self._command,
                cwd=self._world.work,
                env=self._world.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
            assert process.stdin is not None
            process.stdin.write("".join(json.dumps(message) + "\n" for message in messages).encode())
            process.stdin.flush()
            time.sleep(self._random.random())
            self.report.kills["start"] += 1
            sigkill(process.pid)
            process.wait()
            process.stdin.close()
        self._hit.add(thread_id)

    async def _talk(self, server: Server) -> None:
        """One client: a reply after the other, until the server is gone."""
        try:
            while True:
                if not self._threads or (len(self._threads) < _THREADS and self._random.random() < 0.3):
                    await self._start(server)
                else:
                    await self._reply(server, self._random.choice(self._threads))
        except Died:
            pass

    async def _start(self, server: Server) -> None:
        text = self._new_text()
        with self._asking():
            got = await server.start(text)
        if got.failed or got.thread_id is None or got.text != answer(text):
            raise Lost(f"a new thread with {text!r} was answered {got}")
        self._ledger.expect(got.thread_id, text)
        self._ledger.answered(got.thread_id, text, self._endpoint.requests[self._checked :])
        self._threads.append(got.thread_id)

    async def _reply(self, server: Server, thread_id: str) -> None:
        text = self._new_text()
        self._ledger.expect(thread_id, text)
        try:
            with self._asking():
                got = await server.reply(thread_id, text)
        except Died:
            self._hit.add(thread_id)
            raise
        if got.failed or got.thread_id != thread_id or got.text != answer(text):
            raise Lost(f"{text!r} in {thread_id} was answered {got}")
        self._ledger.answered(thread_id, text, self._endpoint.requests[self._checked :])

    def _note_moment(self, pid: int) -> None:
        busy = "command" if len(process_tree(pid)) > 1 else "turn"
        self.report.kills[busy if self._open else "idle"] += 1

    @contextmanager
    def _asking(self) -> Generator[None]:
        self._open += 1
        try:
            yield
        finally:
            self._open -= 1

    # -- the model

    def _new_text(self) -> str:
        self._texts += 1
        return f"turn {self._texts}"

    def _script(self, text: str) -> Sequence[Act]:
        """Each turn runs up to three commands that leave a mark; the model takes its time now and then."""
        chance = random.Random(f"{self.report.seed} {text}")
        if chance.random() < 0.3:
            time.sleep(chance.random() * 0.1)
        number = text.split()[-1]
        commands = [
            Run(f"echo {number}.{place} >> ran; sleep {chance.choice((0, 0, 0.02, 0.2))}; echo out {number}.{place}")
            for place in range(chance.choice((0, 0, 1, 1, 2, 3)))
        ]
        return (*commands, Say(answer(text)))

    # -- what must hold

    def _check(self) -> None:
        requests = self._endpoint.requests
        for request in requests[self._checked :]:
            self._ledger.check_request(request)
        self._checked = len(requests)
        self._check_marks()
        for thread_id in self._threads:
            (path,) = self._world.rollouts(thread_id)
            size = path.stat().st_size
            if self._sizes.get(thread_id) != size:
                self._ledger.check_log(thread_id, self._lines(thread_id))
                self._sizes[thread_id] = size

    def _check_marks(self) -> None:
        """A command runs once, and never before its call is in a log."""
        marks = self._marks()
        if twice := [mark for mark, count in Counter(marks).items() if count > 1]:
            raise Lost(f"commands that ran more than once: {twice}")
        logs = [path.read_bytes() for path in self._world.rollouts()]
        for mark in marks[self._seen_marks :]:
            if not any(f"echo {mark} >> ran".encode() in log for log in logs):
                raise Lost(f"the command {mark} ran and stands in no log")
        self._seen_marks = self.report.commands = len(marks)

    def _marks(self) -> list[str]:
        ran = self._world.work / "ran"
        return ran.read_text().split() if ran.exists() else []

    def _lines(self, thread_id: str) -> list[dict[str, Any]]:
        """The readable records. A kill may tear the line that was being written, no other one."""
        (path,) = self._world.rollouts(thread_id)
        lines: list[dict[str, Any]] = []
        torn = 0
        for line in path.read_bytes().splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                torn += 1
        if torn > self.report.kills.total():
            raise Lost(f"{path} has {torn} damaged lines after {self.report.kills.total()} kills")
        return lines


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    parser.add_argument("--keep", type=Path, help="a folder for the home, which stays")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1_000_000)
    try:
        peer = find_peer(_PEER)
    except PeerMissing as missing:
        peer = None
        _tell(f"without a last look by Codex: {missing}")
    _tell(f"seed {seed}")
    code = 0
    with tempfile.TemporaryDirectory(prefix="kill-loop-") as folder:
        root = options.keep or Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        try:
            _tell(str(KillLoop(root, seed).run(options.kills, _tell, peer)))
        except* Lost as lost:
            _tell(f"seed {seed}: {'; '.join(str(error) for error in _leaves(lost))}")
            code = 1
    return code


def _leaves(group: BaseExceptionGroup[Lost]) -> list[BaseException]:
    leaves: list[BaseException] = []
    for error in group.exceptions:
        leaves += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return leaves


def _tell(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
