"""Commands as processes: spawned in a session of their own, read by threads, ended as a group.

A thread starts the process and waits for it (so that a sandbox which dies with its parent thread lives as long as
the process), another one reads its output into bounded buffers. The event loop is only woken through a pipe, at most
once per look, so that a flood of output costs it nothing.
"""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio
import anyio.to_thread

from clew.agent.tools.buffers import HeadTail

__all__ = ["Process"]

_CHUNK = 65_536
_DRAIN_QUIET = 0.05  # seconds without output after which a dead command's pipe, held open by a child, counts as empty
_DRAIN_LIMIT = 1.0
_LIVE_LIMIT = 65_536  # bytes of live output kept between two looks of a listener
_TERMINATE_GRACE = 0.3
_KILL_LIMIT = 5.0


class Process:
    """One running command.

    `fresh` is the output since the last answer to the model, `whole` all of it; both bounded. `exit_code` is None
    while it runs; 128 + n for a process that signal n ended. Use `start`, then `changed` to wait, then `dispose`.
    """

    def __init__(self, argv: Sequence[str], *, cwd: str, environment: Mapping[str, str], tty: bool) -> None:
        self.argv = tuple(argv)
        self.tty = tty
        self.exit_code: int | None = None
        self.lock = anyio.Lock()
        self._cwd = cwd
        self._environment = dict(environment)
        self._guard = threading.Lock()
        self._fresh = HeadTail()
        self._live = HeadTail(_LIVE_LIMIT)
        self._whole = HeadTail()
        self._popen: subprocess.Popen[bytes] | None = None
        self._output = -1
        self._spawned = threading.Event()
        self._drained = threading.Event()
        self._done = threading.Event()
        self._error: BaseException | None = None
        self._finished = False
        self._reaped = False
        self._disposed = False
        self._woken = False
        self._wake_read = self._wake_write = self._control_read = self._control_write = -1
        self._threads: list[threading.Thread] = []

    # --- life

    async def start(self) -> None:
        """Spawn it. Raises `OSError` where the program or the directory cannot be used."""
        await anyio.to_thread.run_sync(self._start)

    def _start(self) -> None:
        self._wake_read, self._wake_write = os.pipe()
        self._control_read, self._control_write = os.pipe()
        for descriptor in (self._wake_read, self._wake_write):
            os.set_blocking(descriptor, False)
        keeper = threading.Thread(target=self._keep, name="clew-command", daemon=True)
        self._threads.append(keeper)
        keeper.start()
        self._spawned.wait()
        if self._error is not None:
            keeper.join()
            self._close_pipes()
            raise self._error

    def _keep(self) -> None:
        """The thread that is the process' parent."""
        try:
            popen = self._spawn()
        except (OSError, ValueError) as error:
            self._error = error if isinstance(error, OSError) else OSError(22, str(error))
            self._spawned.set()
            return
        self._popen = popen
        reader = threading.Thread(target=self._read, name="clew-output", daemon=True)
        self._threads.append(reader)
        reader.start()
        self._spawned.set()
        code = _wait_unreaped(popen)
        os.write(self._control_write, b"d")
        self._drained.wait()
        with self._guard:
            self.exit_code = code
            self._finished = True
        self._done.set()
        self._wake()
        self.reap()

    def _spawn(self) -> subprocess.Popen[bytes]:
        if not Path(self._cwd).is_dir():
            raise FileNotFoundError(2, os.strerror(2), self._cwd)
        if not self.tty:
            popen = subprocess.Popen(
                self.argv,
                cwd=self._cwd,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                bufsize=0,
            )
            assert popen.stdout is not None
            self._output = os.dup(popen.stdout.fileno())
            popen.stdout.close()
            return popen
        master, slave = os.openpty()
        try:
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
            popen = subprocess.Popen(
                self.argv,
                cwd=self._cwd,
                env=self._environment,
                stdin=slave,
                stdout=slave,
                stderr=slave,
                start_new_session=True,
            )
        except BaseException:
            os.close(master)
            raise
        finally:
            os.close(slave)
        os.set_blocking(master, False)
        self._output = master
        return popen

    # --- the reading thread

    def _read(self) -> None:
        """Take output until the process is dead and nothing more comes; then throw away what leftover children of it
        still print, until `dispose` or the end of the output."""
        poll = select.poll()
        poll.register(self._output, select.POLLIN)
        poll.register(self._control_read, select.POLLIN)
        ended = dead = False
        deadline = 0.0
        while not ended:
            ready = poll.poll(_DRAIN_QUIET * 1000 if dead else None)
            if not ready or (dead and time.monotonic() > deadline):
                break
            for descriptor, _ in ready:
                if descriptor == self._output:
                    ended = not self._take()
                elif os.read(self._control_read, 1) == b"d":
                    dead, deadline = True, time.monotonic() + _DRAIN_LIMIT
                else:
                    ended = True
        if ended and not dead:
            os.read(self._control_read, 1)
        self._drained.set()
        while not ended:
            for descriptor, _ in poll.poll():
                ended = ended or descriptor == self._control_read or not self._discard()

    def _take(self) -> bool:
        data = self._receive()
        if not data:
            return data is None
        with self._guard:
            self._fresh.append(data)
            self._live.append(data)
            self._whole.append(data)
        self._wake()
        return True

    def _discard(self) -> bool:
        data = self._receive()
        return data is None or bool(data)

    def _receive(self) -> bytes | None:
        """Some output; empty at its end, None when there is nothing right now."""
        try:
            return os.read(self._output, _CHUNK)
        except BlockingIOError:
            return None
        except OSError:  # a terminal whose last user is gone
            return b""

    def _wake(self) -> None:
        with self._guard:
            if self._woken or self._disposed:
                return
            self._woken = True
            os.write(self._wake_write, b"w")

    # --- the loop's side

    @property
    def finished(self) -> bool:
        """The command has ended and all its output was taken."""
        return self._finished

    @property
    def reaped(self) -> bool:
        """Nothing of its group is left."""
        return self._reaped

    async def changed(self) -> None:
        """Wait until there is new output or the command has ended. One waiter at a time: hold `lock`."""
        if not self._finished:
            await anyio.wait_readable(self._wake_read)
        with self._guard:
            if self._woken:
                self._woken = False
                os.read(self._wake_read, 1)

    def take_live(self) -> HeadTail:
        """What came since the last call, for people who watch."""
        with self._guard:
            return self._live.take()

    def take_fresh(self) -> HeadTail:
        """What came since the last call, for the model."""
        with self._guard:
            return self._fresh.take()

    def whole(self) -> str:
        """All output, without its middle where it is too long."""
        with self._guard:
            return self._whole.text()

    def send_signal(self, number: int) -> None:
        """Signal the whole group, if anything of it is left."""
        with self._guard:
            if self._popen is None or self._reaped:
                return
            try:
                os.killpg(self._popen.pid, number)
            except (ProcessLookupError, PermissionError):
                return  # all gone; macOS says it this way for a group of zombies

    async def write(self, data: bytes, seconds: float) -> bool:
        """Type into the terminal; False when it did not take everything in time."""
        return await anyio.to_thread.run_sync(self._write, data, seconds)

    def _write(self, data: bytes, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        poll = select.poll()
        poll.register(self._output, select.POLLOUT)
        while data:
            if self._finished or time.monotonic() > deadline:
                return False
            poll.poll(50)
            try:
                data = data[os.write(self._output, data) :]
            except BlockingIOError:
                continue
            except OSError:
                return False
        return True

    async def end(self) -> None:
        """End the group: politely, then by force. Returns when the command is gone, also under cancellation."""
        with anyio.CancelScope(shield=True):
            self.send_signal(signal.SIGTERM)
            await anyio.to_thread.run_sync(self._done.wait, _TERMINATE_GRACE)
            self.send_signal(signal.SIGKILL)
            await anyio.to_thread.run_sync(self._done.wait, _KILL_LIMIT)

    def reap(self) -> bool:
        """Collect the dead command unless children of it still live in its group: until then it stays a zombie, so
        that its number cannot become someone else's. Whether nothing is left."""
        with self._guard:
            popen = self._popen
            if popen is None or self._reaped:
                return True
            if not self._finished or _others_in_group(popen.pid):
                return False
            popen.wait()
            self._reaped = True
            return True

    async def dispose(self) -> None:
        """Kill what is left of the group, end the threads, close everything. The process must not be used after."""
        await anyio.to_thread.run_sync(self._dispose)

    def _dispose(self) -> None:
        if self._disposed or self._popen is None:
            return
        deadline = time.monotonic() + _KILL_LIMIT
        while not self.reap() and time.monotonic() < deadline:
            self.send_signal(signal.SIGKILL)
            time.sleep(0.005)
        if not self._reaped:
            return  # it cannot be killed (stuck in the kernel): its descriptors must stay open for its threads
        os.write(self._control_write, b"q")
        for thread in self._threads:
            thread.join(_KILL_LIMIT)
        with self._guard:
            self._disposed = True
        os.close(self._output)
        self._close_pipes()

    def _close_pipes(self) -> None:
        for descriptor in (self._wake_read, self._wake_write, self._control_read, self._control_write):
            os.close(descriptor)


def _wait_unreaped(popen: subprocess.Popen[bytes]) -> int:
    """Wait for the end without collecting the process, where the system can do that; the exit code."""
    if not hasattr(os, "waitid"):
        code = popen.wait()
        return code if code >= 0 else 128 - code
    result = os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOWAIT)
    assert result is not None
    return result.si_status if result.si_code == os.CLD_EXITED else 128 + result.si_status


def _others_in_group(group: int) -> bool:
    """Whether living processes other than the dead leader are in the group."""
    if not sys.platform.startswith("linux"):
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return False
        return True
    with os.scandir("/proc") as entries:
        return any(_lives_in(group, Path(entry.path)) for entry in entries if entry.name.isdigit())


def _lives_in(group: int, process: Path) -> bool:
    if process.name == str(group):
        return False
    try:
        stat = Path(process, "stat").read_bytes()
    except OSError:
        return False  # gone meanwhile
    state, _, in_group = stat[stat.rindex(b")") + 2 :].split(None, 3)[:3]
    return int(in_group) == group and state not in (b"Z", b"X")
