"""Digesting in other processes, so that it uses other cores than the one that writes the index.

A helper is told on its standard input which files to look at, and answers with pieces on its standard output: messages
of four bytes for the length, then MessagePack; an empty one ends the answer. It ends when its input does, and so also
when the process that asked is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import msgspec

from clew.index.digestion import Batch, Digester, LocalDigester, Work
from clew.rollout.filesystem import RealFileSystem

__all__ = ["Helper", "main", "start_helpers"]

MOST = 4
PIPE_BYTES = 1 << 20

_encoder = msgspec.msgpack.Encoder(enc_hook=str)
_works: msgspec.msgpack.Decoder[list[Work]] = msgspec.msgpack.Decoder(
    list[Work], dec_hook=lambda kind, value: kind(value)
)
_batch = msgspec.msgpack.Decoder(Batch)


def start_helpers() -> list[Digester]:
    """As many as there are cores, `MOST` at most, for files on the real disk; they are to be closed. One that digests
    here where this program is not run by a Python of its own."""
    if not _is_python(sys.executable):
        return [LocalDigester(RealFileSystem())]
    return [Helper() for _ in range(min(os.cpu_count() or 1, MOST))]


def _is_python(program: str) -> bool:
    """Whether it takes a program to run: one that Python was built into may be started by anything it is given."""
    name = program.rpartition("/")[2].lower()
    return name.startswith(("python", "pypy")) and not getattr(sys, "frozen", False)


class Helper:
    """A digester in a process of its own. Where that does not start, or ends too early, what it did not do is done
    here."""

    def __init__(self) -> None:
        self._here = LocalDigester(RealFileSystem())
        self._process: subprocess.Popen[bytes] | None = None
        # Not `multiprocessing`: that runs the main module of a program again, which is not ours.
        program = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import main; main()"
        with contextlib.suppress(OSError):
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )

    def batches(self, part: Sequence[Work]) -> Iterator[Batch]:
        done: set[int] = set()
        process = self._process
        if process is not None:
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                _send(process.stdin, _encoder.encode(part))
                while message := _receive(process.stdout):
                    batch = _batch.decode(message)
                    done.update(found.work for found in (*batch.pieces, *batch.failed))
                    yield batch
                return
            except (OSError, EOFError, msgspec.DecodeError):
                self.close()
        # Of a file that it had begun, the rest waits for the next run.
        yield from self._here.batches(part, without=done)

    @property
    def pid(self) -> int | None:
        """Its number; None where it has ended, or never began."""
        return None if self._process is None else self._process.pid

    def close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()


def main() -> None:
    """A helper: answers until its input ends."""
    gc.set_threshold(100_000)  # next to nothing of what a digest makes refers back to itself
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever asked is told, too, and ends the input
    digester = LocalDigester(RealFileSystem())
    asked, answers = sys.stdin.buffer, sys.stdout.buffer
    with contextlib.suppress(OSError, AttributeError):
        fcntl.fcntl(answers, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            for batch in digester.batches(_works.decode(_receive(asked))):
                _send(answers, _encoder.encode(batch))
            _send(answers, b"")


def _send(stream: Any, message: bytes) -> None:
    stream.write(len(message).to_bytes(4, "big"))
    stream.write(message)
    stream.flush()


def _receive(stream: BinaryIO | Any) -> bytes:
    head = stream.read(4)
    if len(head) < 4:
        raise EOFError
    length = int.from_bytes(head, "big")
    message = stream.read(length)
    if len(message) < length:
        raise EOFError
    return message
