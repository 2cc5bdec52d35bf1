"""Other processes that take thread locks: a program that is not clew, and one that is."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

FOREIGN = """
import fcntl, os, sys
folder, thread = sys.argv[1:]
os.makedirs(folder, exist_ok=True)
gate = os.open(folder + "/.coordination.lock", os.O_RDWR | os.O_CREAT, 0o600)
fcntl.flock(gate, fcntl.LOCK_EX)
lock = os.open(f"{folder}/{thread}.lock", os.O_RDWR | os.O_CREAT, 0o600)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
except BlockingIOError:
    print("busy", flush=True)
    sys.exit()
os.close(gate)
print("held", flush=True)
sys.stdin.read()
gate = os.open(folder + "/.coordination.lock", os.O_RDWR)
fcntl.flock(gate, fcntl.LOCK_EX)
os.unlink(f"{folder}/{thread}.lock")
"""
"""Follows the protocol and nothing more: says `held` or `busy`, and holds the lock until its input ends."""

CLEW = """
import os, socket, sys
from pathlib import Path
import anyio
from clew.errors import Owner
from clew.rollout import Home, RealFileSystem, acquire_waiting
codex, clew, thread, name, turns = sys.argv[1:]
home = Home(RealFileSystem(), Path(codex))

async def main():
    print("ready", flush=True)
    sys.stdin.readline()
    for number in range(int(turns)):
        owner = Owner(name, os.getpid(), socket.gethostname(), turn=f"{name}-{number}")
        lock = await acquire_waiting(home, Path(clew), thread, owner, wait=None)
        print("in", flush=True)
        sys.stdin.readline()
        lock.release()

anyio.run(main)
"""
"""A clew with many turns to run: says `in` when it has the thread, and ends the turn when a line comes."""


class Program:
    """One of them, running."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def go_on(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(5)


@contextmanager
def running(script: str, *words: object) -> Generator[Program]:
    with subprocess.Popen(
        [sys.executable, "-c", script, *map(str, words)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Program(process)
        finally:
            process.kill()


def until(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    """Come back when it holds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to it"
        time.sleep(0.001)
