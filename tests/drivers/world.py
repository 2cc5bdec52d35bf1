"""A home and a work folder for one test, and the processes that live in them."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["CLEW", "Finished", "World", "process_tree", "sigkill", "wait_until"]

CLEW = (str(Path(sys.executable).parent / "clew"),)
"""The installed program, as a person would call it."""

_CONFIG = """\
model = "mock-model"
model_provider = "mock"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false

[model_providers.mock]
name = "mock"
base_url = "{url}"
wire_api = "responses"
requires_openai_auth = false
request_max_retries = 0
stream_max_retries = 0

[analytics]
enabled = false
"""


@dataclass(frozen=True, slots=True)
class Finished:
    """How a program ended, and what it wrote."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """The JSON lines of standard output."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def thread_id(self) -> str:
        """The thread that `exec --json` worked on."""
        return next(str(event["thread_id"]) for event in self.events if event["type"] == "thread.started")


class World:
    """`home` is CODEX_HOME, `work` the folder commands run in; `env` is the whole environment of every program."""

    def __init__(self, root: Path, url: str, *, env: dict[str, str] | None = None) -> None:
        self.root = root
        self.home = root / "home"
        self.work = root / "work"
        self.home.mkdir(parents=True, exist_ok=True)
        self.work.mkdir(exist_ok=True)
        (root / "tmp").mkdir(exist_ok=True)
        (self.home / "config.toml").write_text(_CONFIG.format(url=url))
        self.env = {
            "PATH": os.environ["PATH"],
            "HOME": str(root),
            "LANG": "C.UTF-8",
            "TMPDIR": str(root / "tmp"),
            "CODEX_HOME": str(self.home),
            "CLEW_HOME": str(root / "clew-home"),
            **(env or {}),
        }

    def adopt(self, home: Path) -> None:
        """Copy the threads of another home into this one."""
        for name in ("sessions", "archived_sessions"):
            if (home / name).is_dir():
                shutil.copytree(home / name, self.home / name, dirs_exist_ok=True)
        if (home / "session_index.jsonl").is_file():
            shutil.copy(home / "session_index.jsonl", self.home)
        for path in self.home.rglob("*"):  # what is copied may have been read-only
            path.chmod(0o700 if path.is_dir() else 0o600)

    def run(self, command: Sequence[str], *, seconds: float = 30) -> Finished:
        """Run a program to its end, without standard input."""
        done = subprocess.run(
            command,
            cwd=self.work,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )
        return Finished(done.returncode, done.stdout, done.stderr)

    def start(self, command: Sequence[str], *, log: str) -> subprocess.Popen[bytes]:
        """Start a program that talks to nobody; what it writes goes to the file `log` beside the home."""
        with (self.root / log).open("ab") as out:
            return subprocess.Popen(
                command, cwd=self.work, env=self.env, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def rollouts(self, thread_id: str | None = None) -> list[Path]:
        """The thread's plain files, or those of all threads, oldest first by name."""
        return sorted(self.home.rglob(f"rollout-*{thread_id}*.jsonl" if thread_id else "rollout-*.jsonl"))

    def lines(self, thread_id: str) -> list[dict[str, Any]]:
        """The records of a thread that has one plain file. Every line must be whole, but for the last one."""
        (path,) = self.rollouts(thread_id)
        return [json.loads(line) for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]

    def thread_ids(self) -> list[str]:
        """Ids of all threads on disk, oldest file first by name."""
        ids = [
            re.sub(r"^rollout-\d{4}(?:-\d\d){2}T\d\d(?:-\d\d){2}-", "", path.name)[:36]
            for path in sorted(self.home.rglob("rollout-*.jsonl"), key=lambda path: path.name)
        ]
        return list(dict.fromkeys(ids))


def process_tree(pid: int) -> list[int]:
    """The process and all its descendants, parents first. Empty when it is gone."""
    found: list[int] = []
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        tasks = Path(f"/proc/{current}/task")
        try:
            children = [int(child) for task in tasks.iterdir() for child in (task / "children").read_text().split()]
        except OSError:  # it ended while we looked
            continue
        found.append(current)
        waiting += children
    return found


def sigkill(pid: int) -> None:
    """End a process and all its descendants at once, as a power cut would: nobody can tidy up."""
    tree = process_tree(pid)
    for each in tree:
        try:
            os.kill(each, signal.SIGSTOP)
        except ProcessLookupError:
            continue
    for each in [*tree, *process_tree(pid)]:
        try:
            os.kill(each, signal.SIGKILL)
        except ProcessLookupError:
            continue


def wait_until(true: Callable[[], bool], what: str, *, seconds: float = 20) -> None:
    """Look again and again until something that another process does has happened."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, f"{what}: not within {seconds} s"
        time.sleep(0.005)
