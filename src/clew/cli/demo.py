"""`clew demo`: a thread survives a kill, before your eyes. Everything is real but the model, which is offline."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from cyclopts import Parameter

from clew.cli import terminal
from clew.errors import ClewError

if TYPE_CHECKING:
    from collections.abc import Generator

    from mcp import ClientSession

__all__ = ["DemoFailed", "Stage", "demo", "play"]

_Switch = Parameter(negative="")
_NUMBER = "41"
_LIMIT = 60.0
"""Seconds until the demo gives up."""
_PATIENCE = 0.02
_CONFIG = """\
model_provider = "offline"
approval_policy = "never"
# The demo's own commands only write into its temporary folder.
sandbox_mode = "danger-full-access"
"""
# The shell notes its own number first, so that the pid of the server is known.
_NOTING_PID = 'echo $$ > "$0" && exec "$@"'


class DemoFailed(ClewError):
    """Something is not as the demo tells it."""


def demo(
    *,
    keep: Annotated[bool, _Switch] = False,
    json: Annotated[bool, _Switch] = False,
) -> int:
    """Watch a thread survive a kill.

    Parameters
    ----------
    keep
        Keep the temporary folder, to look at the files.
    json
        Print the facts as JSON instead of the story.
    """
    import anyio

    with _folder(keep=keep) as root:
        stage = Stage(root, tell=not json)
        try:
            anyio.run(play, stage)
        except TimeoutError:
            raise DemoFailed(f"the demo did not end within {_LIMIT:.0f} seconds", hint=stage.log_hint()) from None
        finally:
            stage.sweep()
        if json:
            terminal.write_json(stage.facts | {"kept": keep})
        elif keep:
            stage.say(f"Kept: {root}", "dim")
    return 0


class Stage:
    """The folders of the demo, what it found out, and how it is told."""

    def __init__(self, root: Path, *, tell: bool = True) -> None:
        self.root = root
        self.project = root / "project"
        self.codex_home = root / "codex"
        self.facts: dict[str, Any] = {"folder": str(root), "steps": []}
        self._tell = tell
        self._console = terminal.console() if tell else None
        self.began = time.monotonic()
        for folder in (self.project, self.codex_home, root / "clew", root / "home"):
            folder.mkdir(mode=0o700)
        (self.codex_home / "config.toml").write_text(_CONFIG)

    def environment(self) -> dict[str, str]:
        """What the server sees: homes below the folder, nothing of the person's own."""
        return {
            "HOME": str(self.root / "home"),
            "CODEX_HOME": str(self.codex_home),
            "CLEW_HOME": str(self.root / "clew"),
            "TMPDIR": str(self.root),
            "LANG": os.environ.get("LANG", "C.UTF-8"),
        }

    def say(self, text: str, style: str = "", *, indent: int = 0) -> None:
        if self._console is not None:
            from rich.text import Text

            self._console.print(Text(" " * indent + terminal.clean(text), style=style), soft_wrap=True)

    def step(self, title: str) -> None:
        """A new chapter."""
        self.facts["steps"].append({"title": title, "seconds": round(time.monotonic() - self.began, 2)})
        self.say("")
        self.say(f"{len(self.facts['steps'])}. {title}", "bold")

    def quote(self, who: str, text: str) -> None:
        """What somebody said."""
        if self._console is not None:
            from rich.text import Text

            style = "cyan" if who == "you" else "green"
            lines = terminal.clean(text).replace("\n", "\n" + " " * 10)
            self._console.print(Text.assemble((f"{who:>8}  ", f"bold {style}"), lines), soft_wrap=True)

    def disk(self, log: Path, note: str = "") -> None:
        """What is on disk now; the whole path the first time."""
        lines, calls = read_log(log)
        first = "rollout" not in self.facts
        self.facts["rollout"] = str(log)
        self.facts["steps"][-1] |= {"lines": lines, "open_calls": len(calls)}
        if first:
            self.say(str(log), "dim", indent=10)
        self.say(f"{'on disk':>8}  {lines} lines{note}", "dim")

    def check(self, true: bool, what: str) -> None:
        """Every claim of the story is verified."""
        if not true:
            raise DemoFailed(f"the demo expected that {what}", hint=self.log_hint())

    def log_hint(self) -> str:
        """The end of what the servers wrote on standard error, for a failure."""
        with suppress(OSError):
            said = (self.root / "server.log").read_text(errors="replace").strip().splitlines()
            if said:
                return "The server said:\n  " + "\n  ".join(said[-8:])
        return "`clew doctor` may tell why; `clew demo --keep` keeps the files."

    def sweep(self) -> None:
        """End the command that outlived its server: it is ours."""
        with suppress(OSError, ValueError, subprocess.SubprocessError):
            pid = int((self.project / "command.pid").read_text())
            if _is_ours(pid):
                # Commands lead a group of their own; their children go with them.
                (os.killpg if os.getpgid(pid) == pid else os.kill)(pid, signal.SIGKILL)


async def play(stage: Stage) -> None:
    """The story. Raises `DemoFailed` at the first thing that is not as told."""
    import anyio

    with anyio.fail_after(_LIMIT):
        stage.say("A thread of a coding agent, and a server that is killed in the middle of it.", "bold")
        stage.say("The model is offline: no network, no key. Everything else is what your clients will use.", "dim")
        thread_id, log = await _first_life(stage)
        before = log.read_bytes()
        await _second_life(stage, thread_id, log, before)
        _farewell(stage, thread_id, log)


async def _first_life(stage: Stage) -> tuple[str, Path]:
    import anyio

    async with _server(stage) as (session, pid):
        stage.step("An MCP client starts `clew mcp` and tells it something")
        prompt = f"My favourite number is {_NUMBER}."
        stage.quote("you", prompt)
        thread_id, answer = await _call(stage, session, "codex", prompt=prompt, cwd=str(stage.project))
        stage.quote("agent", answer)
        log = _log_of(stage, thread_id)
        stage.facts["thread_id"] = thread_id
        stage.disk(log)

        stage.step("It runs a command")
        prompt = "run: echo hello from the demo | tee hello.txt"
        stage.quote("you", prompt)
        _, answer = await _call(stage, session, "codex-reply", prompt=prompt, threadId=thread_id)
        stage.quote("agent", answer)
        stage.check((stage.project / "hello.txt").is_file(), "the command wrote hello.txt")
        stage.disk(log)

        stage.step("The server is killed (SIGKILL) while the next command runs")
        prompt = "run: echo $$ > command.pid; echo ran >> count.txt; sleep 300; echo never"
        stage.quote("you", prompt)
        ended: list[Exception] = []

        async def interrupted() -> None:
            try:
                await _call(stage, session, "codex-reply", prompt=prompt, threadId=thread_id)
            except DemoFailed:
                raise
            except Exception as error:
                ended.append(error)

        async with anyio.create_task_group() as group:
            group.start_soon(interrupted)
            await _until(lambda: (stage.project / "count.txt").exists())
            os.kill(pid, signal.SIGKILL)
        stage.check(bool(ended), "the call ended with its server")
        stage.say(f"kill -9 {pid}", "bold red", indent=10)
    _, calls = read_log(log)
    stage.check(len(calls) == 1, f"one call is open in the log, not {len(calls)}")
    stage.sweep()
    stage.disk(log, f", the last call is open: {calls[0]}")
    return thread_id, log


async def _second_life(stage: Stage, thread_id: str, log: Path, before: bytes) -> None:
    stage.step("A new server, the same thread")
    async with _server(stage) as (session, pid):
        stage.say(f"a new process ({pid}) that has never heard of this thread", "dim", indent=10)
        prompt = "What is my favourite number?"
        stage.quote("you", prompt)
        same, answer = await _call(stage, session, "codex-reply", prompt=prompt, threadId=thread_id)
        stage.quote("agent", answer)
        stage.facts["answer"] = answer
        stage.check(same == thread_id, "the answer comes from the same thread")
        stage.check(_NUMBER in answer, f"the agent remembers {_NUMBER}; it said: {answer}")
    after = log.read_bytes()
    stage.check(after.startswith(before) and len(after) > len(before), "the log only grew")
    count = (stage.project / "count.txt").read_text().split()
    stage.check(count == ["ran"], f"the killed command was not run again; it ran {len(count)} times")
    stage.disk(log, ": the old ones untouched, the killed command not run again")


def _farewell(stage: Stage, thread_id: str, log: Path) -> None:
    stage.facts["seconds"] = round(time.monotonic() - stage.began, 1)
    stage.say("")
    stage.say(f"Done in {stage.facts['seconds']} seconds: it remembered. Now for real:", "bold")
    for command, what in (
        ("claude mcp add codex -- clew mcp", "Claude Code: its tools codex and codex-reply"),
        ("clew mcp", "the command for any other MCP client"),
        ("clew doctor", "is this machine ready?"),
        ('clew exec "…"', "one turn in the terminal"),
        ("clew list", "all threads, Codex' own included"),
    ):
        stage.say(f"  {command:<34}{what}")


@asynccontextmanager
async def _server(stage: Stage) -> AsyncGenerator[tuple[ClientSession, int]]:
    """`clew mcp` as a process of its own, an initialised client on it, and its pid."""
    from mcp import ClientSession, StdioServerParameters
    from mcp.client.stdio import stdio_client

    noted = stage.root / "server.pid"
    noted.unlink(missing_ok=True)
    server = StdioServerParameters(
        command="/bin/sh",
        args=["-c", _NOTING_PID, str(noted), sys.executable, "-m", "clew", "mcp"],
        env=stage.environment(),
        cwd=stage.project,
    )
    with (stage.root / "server.log").open("a") as log:
        async with stdio_client(server, errlog=log) as (read, write), ClientSession(read, write) as session:
            await session.initialize()
            yield session, int(noted.read_text())


async def _call(stage: Stage, session: ClientSession, tool: str, **arguments: str) -> tuple[str, str]:
    """Call a tool; gives the thread id and the answer."""
    result = await session.call_tool(tool, arguments)
    told = cast("dict[str, Any]", result.structured_content or {})
    answer = str(told.get("content", ""))
    stage.check(not result.is_error, f"{tool} succeeds; it said: {answer or result.content}")
    return str(told.get("threadId", "")), answer


def read_log(log: Path) -> tuple[int, list[str]]:
    """The number of lines, and the names of the calls that have no output."""
    import msgspec

    from clew.rollout import Record, decode_line

    lines = log.read_bytes().splitlines()
    calls: dict[str, str] = {}
    for line in lines:
        record = decode_line(line)
        if not isinstance(record, Record) or record.type != "response_item":
            continue
        item = msgspec.json.decode(record.payload, type=dict[str, Any])
        if item.get("type") in ("function_call", "custom_tool_call"):
            calls[item["call_id"]] = str(item.get("name"))
        elif item.get("type") in ("function_call_output", "custom_tool_call_output"):
            calls.pop(item["call_id"], None)
    return len(lines), list(calls.values())


def _log_of(stage: Stage, thread_id: str) -> Path:
    found = sorted((stage.codex_home / "sessions").rglob(f"*{thread_id}*.jsonl"))
    stage.check(len(found) == 1, f"thread {thread_id} has one log on disk, not {len(found)}")
    return found[0]


async def _until(true: Callable[[], bool]) -> None:
    import anyio

    # Another process makes it true; there is nothing here to wait on.
    while not true():  # noqa: ASYNC110 - another process sets no event
        await anyio.sleep(_PATIENCE)


def _is_ours(pid: int) -> bool:
    """Whether a process is still the command whose pid was noted."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        listed = subprocess.run(["ps", "-o", "command=", "-p", str(pid)], capture_output=True, check=False, timeout=5)
        words = listed.stdout
    return b"count.txt" in words


@contextmanager
def _folder(*, keep: bool) -> Generator[Path]:
    if keep:
        yield Path(tempfile.mkdtemp(prefix="clew-demo-")).resolve()
        return
    with tempfile.TemporaryDirectory(prefix="clew-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder).resolve()
