"""The real Codex: `codex exec`, and `codex app-server` as a JSON-RPC client sees it."""

from __future__ import annotations

import fcntl
import json
import os
import queue
import shutil
import subprocess
import threading
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from drivers.world import Finished, World

__all__ = ["AppServer", "Peer", "PeerError", "PeerMissing", "find_peer"]


_ROOT = Path(__file__).resolve().parents[2]


class PeerMissing(Exception):
    """Why there is no Codex of that version here."""


class PeerError(Exception):
    """What the app-server answered instead of a result."""


class Peer:
    """One released version of Codex."""

    def __init__(self, version: str, binary: Path) -> None:
        self.version = version
        self.binary = str(binary)

    def exec_command(self, prompt: str, *, resume: str | None = None) -> tuple[str, ...]:
        """`codex exec` for a new thread, or to go on with one."""
        command = (self.binary, "exec", "--json", "--skip-git-repo-check")
        return (*command, "resume", resume, prompt) if resume else (*command, prompt)

    def exec(self, world: World, prompt: str, *, resume: str | None = None) -> Finished:
        """Run one turn, which must complete."""
        done = world.run(self.exec_command(prompt, resume=resume))
        assert done.code == 0, f"codex {self.version} exec ended with {done.code}: {done.err[-2000:]}{done.out[-500:]}"
        return done

    @property
    def mcp_server(self) -> tuple[str, ...]:
        return (self.binary, "mcp-server")

    def app_server(self, world: World) -> AppServer:
        return AppServer((self.binary, "app-server"), world)


def find_peer(version: str, shared: Path | None = None) -> Peer:
    """A released Codex. It is looked for in `CLEW_PEER` (default `.peer` in the project) and, where it is missing and
    `shared` has the installer, installed through npm: once, whoever comes first. Raises `PeerMissing`."""
    folder = Path(os.environ.get("CLEW_PEER", _ROOT / ".peer")).resolve()
    if binary := _installed(folder, version):
        return Peer(version, binary)
    installer = shared / "acceptance" / "install_peer.sh" if shared else None
    if installer is None or not installer.is_file():
        raise PeerMissing(f"Codex {version} is not in {folder}, and there is no installer ({installer})")
    if shutil.which("npm") is None:
        raise PeerMissing(f"Codex {version} is not in {folder}, and there is no npm to install it with")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = ["sh", str(installer), str(folder), version]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if binary := _installed(folder, version):
        return Peer(version, binary)
    raise PeerMissing(f"Codex {version} cannot be installed here: {done.stderr.strip()[-300:]}")


def _installed(folder: Path, version: str) -> Path | None:
    found = sorted((folder / version / "node_modules" / "@openai").glob("*/vendor/**/codex"))
    return next((path for path in found if path.is_file()), None)


class AppServer(AbstractContextManager["AppServer"]):
    """A JSON-RPC client on standard input and output; `with` starts and ends the server."""

    def __init__(self, command: tuple[str, ...], world: World) -> None:
        self._command = command
        self._world = world
        self._answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self._notes: queue.Queue[dict[str, Any]] = queue.Queue()
        self._last = 0

    def __enter__(self) -> Self:
        world = self._world
        self._errors = (world.root / "app-server.stderr").open("ab")
        self._process = subprocess.Popen(
            self._command,
            cwd=world.work,
            env=world.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        info = {"name": "tests", "title": "tests", "version": "1"}
        self.call("initialize", {"clientInfo": info, "capabilities": {"experimentalApi": True}})
        self._send({"method": "initialized"})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(5)
        self._process.stdout.close()
        self._errors.close()

    @property
    def pid(self) -> int:
        return self._process.pid

    def call(self, method: str, params: dict[str, Any], *, seconds: float = 20) -> dict[str, Any]:
        """The result of a request. Raises `PeerError` with the message of an error answer."""
        self._last += 1
        self._send({"id": self._last, "method": method, "params": params})
        while True:
            message = self._answers.get(timeout=seconds)
            if message.get("id") != self._last:
                continue
            if "error" in message:
                raise PeerError(message["error"]["message"])
            return dict(message["result"])

    def wait_for(self, method: str, *, seconds: float = 20) -> dict[str, Any]:
        """The parameters of the next notification of that name."""
        while True:
            message = self._notes.get(timeout=seconds)
            if message["method"] == method:
                return dict(message["params"])

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message).encode() + b"\n")
        self._process.stdin.flush()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            message = json.loads(line)
            (self._notes if "method" in message else self._answers).put(message)
