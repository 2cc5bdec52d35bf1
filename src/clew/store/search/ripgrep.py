"""ripgrep as a sieve: which lines of many files may hold a text. It decides nothing; lines are read before they count.

Names of files come behind `--` and relative to a folder, expressions behind `-e`: nothing from outside is ever an
option. The process is killed when the search is stopped, and whenever its reader leaves.
"""

from __future__ import annotations

import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from clew.errors import SearchStopped
from clew.store.queries import Stop

__all__ = ["Ripgrep", "RipgrepFailed", "bundled_ripgrep", "find_ripgrep", "is_large"]

_OPTIONS = (
    "--no-config",
    "--color=never",
    "--text",
    "--encoding=none",
)
_OFFSETS = ("--no-heading", "--no-line-number", "--byte-offset", "--max-columns=1")
"""Lines are asked for by their offsets alone, whatever bytes they hold: one longer than the columns is not printed."""
_WALK = ("-uuu", "--files-with-matches", "--null", "--no-mmap", "--glob=!*.zst")
"""All files below a folder, whatever their names are."""

_IN_FILE = re.compile(rb"([^\0]+)\0(\d+):[^\n]*\n")
_IN_STREAM = re.compile(rb"(\d+):[^\n]*\n")
_LOOK = 0.05
"""Seconds between two looks at whether the search was stopped."""
_LARGE = 32 << 20
"""Bytes from which on a file is mapped: otherwise a line would be held whole, however long."""


class RipgrepFailed(Exception):
    """ripgrep did not run, or not to its end; without it everything is read."""


def bundled_ripgrep() -> Path | None:
    """The ripgrep that was installed beside this Python, None if there is none."""
    beside = Path(sys.executable or "python").with_name("rg")
    return beside if os.access(beside, os.X_OK) else None


def find_ripgrep(env: Mapping[str, str]) -> Path | None:
    """The system's ripgrep, else the one installed beside this Python."""
    found = shutil.which("rg", path=env.get("PATH", os.defpath))
    return Path(found).absolute() if found else bundled_ripgrep()


class Ripgrep:
    """One ripgrep program."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def in_files(
        self, folder: Path, names: Sequence[str], needles: Sequence[str], *, stop: Stop, large: bool = False
    ) -> tuple[dict[str, list[int]], bool]:
        """The offsets of the lines that may hold a text, by the names of the files (relative to `folder`). `large`
        files are mapped. Also whether all of them could be read. Raises `RipgrepFailed`, `SearchStopped`."""
        found: dict[str, list[int]] = {}
        command = [str(self._program), *_OPTIONS, *_OFFSETS, "--with-filename", "--null"]
        command.append("--mmap" if large else "--no-mmap")
        # Explicit names are searched whatever their names are, so that nothing has to be told about hidden files.
        command += [*_expressions(needles), "--", *names]
        output = _Output(command, stop, folder=folder, stdin=None)
        rest = b""
        for data in output.read():
            data = rest + data
            end = 0
            for match in _IN_FILE.finditer(data):
                found.setdefault(os.fsdecode(match[1]), []).append(int(match[2]))
                end = match.end()
            rest = data[end:]
        return found, output.whole

    def below(
        self, folder: Path, names: Sequence[str], needles: Sequence[str], *, stop: Stop
    ) -> tuple[frozenset[str], bool]:
        """Which plain files below some folders of `folder` may hold a text, by their names relative to it; large ones
        are not looked at. Also whether all of them could be read. Raises `RipgrepFailed`, `SearchStopped`."""
        command = [str(self._program), *_OPTIONS, *_WALK, f"--max-filesize={_LARGE - 1}"]
        output = _Output([*command, *_expressions(needles), "--", *names], stop, folder=folder, stdin=None)
        found = b"".join(output.read()).split(b"\0")
        return frozenset(map(os.fsdecode, found)), output.whole

    def in_stream(self, descriptor: int, needles: Sequence[str], *, stop: Stop) -> list[int]:
        """The same for an open file, from its beginning on. Raises `RipgrepFailed`, `SearchStopped`."""
        found: list[int] = []
        os.lseek(descriptor, 0, os.SEEK_SET)
        command = [str(self._program), *_OPTIONS, *_OFFSETS, "--no-filename", *_expressions(needles), "--", "-"]
        rest = b""
        for data in _Output(command, stop, folder=None, stdin=descriptor).read():
            data = rest + data
            end = 0
            for match in _IN_STREAM.finditer(data):
                found.append(int(match[1]))
                end = match.end()
            rest = data[end:]
        return found


def is_large(size: int) -> bool:
    """Whether a file of so many bytes should be mapped."""
    return size >= _LARGE


def _expressions(needles: Sequence[str]) -> Iterator[str]:
    for needle in needles:
        yield f"--regexp={needle}"


class _Output:
    """A command that runs. `whole`: it had nothing to complain about."""

    def __init__(self, command: Sequence[str], stop: Stop, *, folder: Path | None, stdin: int | None) -> None:
        self._command = command
        self._stop = stop
        self._folder = folder
        self._stdin = stdin
        self.whole = True

    def read(self) -> Iterator[bytes]:
        """What it writes, as it comes. It does not outlive its reader."""
        with tempfile.TemporaryFile() as complaints:
            try:
                process = subprocess.Popen(
                    self._command,
                    cwd=self._folder,
                    env={},
                    stdin=subprocess.DEVNULL if self._stdin is None else self._stdin,
                    stdout=subprocess.PIPE,
                    stderr=complaints,
                )
            except OSError as error:
                raise RipgrepFailed(str(error)) from error
            assert process.stdout is not None
            with process.stdout as output:
                try:
                    yield from _read(output.fileno(), self._stop)
                except BaseException:
                    process.kill()
                    raise
                finally:
                    code = process.wait()
            complaints.seek(0)
            complaint = complaints.read(4096).decode(errors="replace")
        if code not in (0, 1, 2) or "regex" in complaint:
            raise RipgrepFailed(complaint or f"rg ended with {code}")
        self.whole = code != 2


def _read(descriptor: int, stop: Stop) -> Iterator[bytes]:
    waiting = select.poll()
    waiting.register(descriptor, select.POLLIN | select.POLLHUP)
    while True:
        if stop():
            raise SearchStopped
        if waiting.poll(_LOOK * 1000):
            data = os.read(descriptor, 1 << 18)
            if not data:
                return
            yield data
