"""Servers under measurement: JSON lines on pipes, as their clients see them, and what the kernel says about them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from drivers import CLEW, Peer, World, process_tree

__all__ = ["Clew", "Codex", "Cost", "Memory", "Server"]

_TICKS = os.sysconf("SC_CLK_TCK")


class Cost(msgspec.Struct, frozen=True):
    """What a process used up to now: CPU seconds of it and of its ended children, bytes handed to `write` and its kin
    that did not go to its client, bytes that went to the disk."""

    cpu: float
    written: int
    stored: int

    def since(self, before: Cost) -> Cost:
        return Cost(self.cpu - before.cpu, self.written - before.written, self.stored - before.stored)


class Memory(msgspec.Struct, frozen=True):
    """Resident megabytes: now, and the most there ever was."""

    now: float
    peak: float


class Server:
    """A program that answers JSON-RPC requests, one at a time."""

    def __init__(self, command: Sequence[str], world: World) -> None:
        self._command = command
        self._world = world
        self._last = 0
        self._heard = 0

    def __enter__(self) -> Self:
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            self._command,
            cwd=self._world.work,
            env=self._world.env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=1 << 20,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """A request and its answer."""
        self._last += 1
        self.send({"id": self._last, "method": method, "params": params})
        return self.hear(lambda message: message.get("id") == self._last and "method" not in message)

    def send(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        self._process.stdin.flush()

    def hear(self, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The next message that is wanted; others are dropped."""
        assert self._process.stdout is not None
        while True:
            line = self._process.stdout.readline()
            if not line:
                raise RuntimeError(f"{self._command[0]} ended with {self._process.wait()}")
            self._heard += len(line)
            message: dict[str, Any] = json.loads(line)
            if wanted(message):
                if "error" in message:
                    raise RuntimeError(str(message["error"])[:500])
                return message

    def memory(self) -> Memory:
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        now, peak = (int(re.findall(rf"^{key}:\s+(\d+) kB", status, re.M)[0]) / 1024 for key in ("VmRSS", "VmHWM"))
        return Memory(now, peak)

    def forget_peak(self) -> None:
        """Let the peak start from now."""
        Path(f"/proc/{self._process.pid}/clear_refs").write_text("5")

    def cost(self) -> Cost:
        """CPU includes ended children (a shell, git); bytes are those of the process itself."""
        folder = Path(f"/proc/{self._process.pid}")
        times = (folder / "stat").read_text().rpartition(")")[2].split()[11:15]
        counts = dict(re.findall(r"^(\w+): (\d+)$", (folder / "io").read_text(), re.M))
        return Cost(sum(map(int, times)) / _TICKS, int(counts["wchar"]) - self._heard, int(counts["write_bytes"]))

    def settle(self) -> None:
        """Wait until the process does nothing any more (loading ahead, indexing)."""
        before = -1.0
        while (now := self.cost().cpu) != before or len(process_tree(self._process.pid)) > 1:
            before = now
            time.sleep(0.3)


class Clew(Server):
    """`clew mcp`."""

    def __init__(self, world: World) -> None:
        super().__init__((*CLEW, "mcp"), world)

    def initialize(self) -> float:
        """Seconds from the start of the process to the answer."""
        client = {"name": "benchmark", "version": "1"}
        self.ask("initialize", {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client})
        elapsed = time.perf_counter() - self.started
        self.send({"method": "notifications/initialized"})
        return elapsed

    def start(self, text: str) -> str:
        """A new thread with a first turn; gives its id."""
        return str(self._call("codex", {"prompt": text})["threadId"])

    def reply(self, thread_id: str, text: str) -> None:
        self._call("codex-reply", {"threadId": thread_id, "prompt": text})

    def _call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        result = self.ask("tools/call", {"name": tool, "arguments": arguments})["result"]
        if result.get("isError"):
            raise RuntimeError(str(result["content"])[:500])
        return dict(result["structuredContent"])


class Codex(Server):
    """`codex app-server` of a released version."""

    def __init__(self, peer: Peer, world: World) -> None:
        super().__init__((peer.binary, "app-server"), world)
        self._open: set[str] = set()

    def initialize(self) -> float:
        client = {"name": "benchmark", "title": "benchmark", "version": "1"}
        self.ask("initialize", {"clientInfo": client, "capabilities": {"experimentalApi": True}})
        elapsed = time.perf_counter() - self.started
        self.send({"method": "initialized"})
        return elapsed

    def start(self, text: str) -> str:
        params = {"cwd": str(self._world.work), "approvalPolicy": "never", "sandbox": "danger-full-access"}
        thread_id = str(self.ask("thread/start", params)["result"]["thread"]["id"])
        self._open.add(thread_id)
        self.reply(thread_id, text)
        return thread_id

    def reply(self, thread_id: str, text: str) -> None:
        """One turn; a thread that is not loaded is resumed first."""
        if thread_id not in self._open:
            self.ask("thread/resume", {"threadId": thread_id, "excludeTurns": True, "cwd": str(self._world.work)})
            self._open.add(thread_id)
        self._last += 1
        request = {"threadId": thread_id, "input": [{"type": "text", "text": text}]}
        self.send({"id": self._last, "method": "turn/start", "params": request})
        done = self.hear(lambda message: message.get("method") == "turn/completed" or "error" in message)
        turn = done["params"]["turn"]
        if turn["status"] != "completed":
            raise RuntimeError(str(turn)[:500])
