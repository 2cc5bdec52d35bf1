"""A program at a terminal: keys in, what the screen is told out."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

__all__ = ["ALT_ENTER", "CTRL_A", "CTRL_C", "CTRL_D", "DOWN", "END", "ENTER", "ESCAPE", "TAB", "UP", "Screen"]

ENTER, ESCAPE, TAB, CTRL_A, CTRL_C, CTRL_D = "\r", "\x1b", "\t", "\x01", "\x03", "\x04"
UP, DOWN, END, ALT_ENTER = "\x1b[A", "\x1b[B", "\x1b[F", "\x1b\r"

_LEADS = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
_SEQUENCE = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-Z\\^-~]")
_WHERE = b"\x1b[6n"
_READS, _READS_NOT = b"\x1b[?2004h", b"\x1b[?2004l"
_PATIENCE = 20.0


class Screen:
    """Runs clew at a terminal of its own. `said` is all it wrote, without escape sequences."""

    def __init__(self, *words: str, env: Mapping[str, str], cwd: Path, columns: int = 80, rows: int = 24) -> None:
        self._master, self._slave = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(self._slave)
        command: Sequence[str] = (sys.executable, "-c", _LEADS, sys.executable, "-m", "clew", *words)
        self.process = subprocess.Popen(
            command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            cwd=cwd,
            env={"TERM": "xterm-256color", "PYTHONPATH": os.environ.get("PYTHONPATH", ""), **env},
            start_new_session=True,
        )
        self._raw = b""
        self._seen = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    @property
    def said(self) -> str:
        return _SEQUENCE.sub("", self._raw.decode("utf-8", "replace"))

    @property
    def raw(self) -> bytes:
        return self._raw

    @property
    def now(self) -> list[Any]:
        """How the terminal is set."""
        return termios.tcgetattr(self._slave)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def send(self, *keys: str) -> None:
        for key in keys:
            os.write(self._master, key.encode())

    def expect(self, text: str, *, send: Sequence[str] = ()) -> str:
        """Press the keys, then wait until the text is written behind what was waited for before. Gives what was written
        up to it."""
        self.send(*send)
        self._until(lambda: text in self.said[self._seen :], f"{text!r} did not come")
        start, self._seen = self._seen, self.said.index(text, self._seen) + len(text)
        return self.said[start : self._seen]

    def prompt(self) -> None:
        """Wait until keys are read one by one. What is typed before that, the terminal keeps for later."""
        self._until(lambda: self._raw.count(_READS) > self._raw.count(_READS_NOT), "no prompt came")

    def _until(self, come: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not come():
            ended = self.process.poll() is not None
            if not self._more(time.monotonic() + (0 if ended else 0.2)) and (ended or time.monotonic() > deadline):
                raise AssertionError(f"{complaint}; behind what was seen there is:\n{self.said[self._seen :]}")

    def end(self) -> int:
        """Wait for the end of the program; gives its exit code, negative for a signal."""
        deadline = time.monotonic() + _PATIENCE
        while self.process.poll() is None:
            if time.monotonic() > deadline:
                raise AssertionError(f"it goes on; it said:\n{self.said[-2000:]}")
            self._more(time.monotonic() + 0.05)
        while self._more(time.monotonic()):
            pass
        return self.process.wait()

    def stop(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def _more(self, deadline: float) -> bool:
        """Read what comes next; False when nothing did in time."""
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        data = os.read(self._master, 1 << 16)
        self._raw += data
        if _WHERE in data:
            # Whoever asks where the cursor is gets an answer, as from every terminal.
            os.write(self._master, b"\x1b[1;1R")
        return True
