"""A real server process at the other end of real pipes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any, TextIO

import mcp_types as types
import pytest
from mcp import StdioServerParameters
from mcp.client.session import ClientSession
from mcp.client.stdio import stdio_client

HERE = Path(__file__).parent
HELLO: dict[str, Any] = {
    "protocolVersion": "2025-11-25",
    "capabilities": {"elicitation": {}},
    "clientInfo": {"name": "c", "version": "1"},
}
pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals and exit codes of POSIX")


class Process:
    """One life of a server over the threads in `folder`."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.home, self.threads = folder / "home", folder / "threads"
        for path in (self.home, self.threads):
            path.mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "served.py"), str(self.home), str(self.threads), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self.lines: list[dict[str, Any]] = []
        self.timer = threading.Timer(10, self.process.kill)
        self.timer.start()

    def say(self, message: dict[str, Any] | bytes) -> None:
        assert self.process.stdin is not None
        line = message if isinstance(message, bytes) else json.dumps(message).encode() + b"\n"
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the server said nothing more"
        self.lines.append(json.loads(line))
        return self.lines[-1]

    def answer(self, request_id: int) -> dict[str, Any]:
        while True:
            message = self.hear()
            if message.get("id") == request_id and "method" not in message:
                return message

    def ask(self, request_id: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self.say({"jsonrpc": "2.0", "id": request_id, "method": method, "params": params})
        return self.answer(request_id)

    def call(self, request_id: int, tool: str, **arguments: Any) -> None:
        params = {"name": tool, "arguments": arguments, "_meta": {"progressToken": request_id}}
        self.say({"jsonrpc": "2.0", "id": request_id, "method": "tools/call", "params": params})

    def greet(self) -> None:
        assert self.ask(1, "initialize", HELLO)["result"]["serverInfo"]["name"] == "clew"
        self.say({"jsonrpc": "2.0", "method": "notifications/initialized"})

    def end(self) -> tuple[int, list[bytes], str]:
        """Exit status, what else was on stdout, and stderr."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        rest, noise = self.process.stdout.readlines(), self.process.stderr.read().decode()
        status = self.process.wait()
        self.timer.cancel()
        self.process.stdout.close()
        self.process.stderr.close()
        return status, rest, noise

    def recorded(self) -> list[str]:
        texts = [path.read_text() for path in self.threads.glob("*.json")]
        return [turn["status"] for text in texts for turn in json.loads(text)["turns"]]

    def until_running(self) -> None:
        while "turn started" not in str(self.hear()):
            pass


@pytest.fixture
def process(tmp_path: Path) -> Generator[Process]:
    process = Process(tmp_path)
    yield process
    if process.process.poll() is None:
        process.process.kill()
        process.end()


def test_the_process_answers_and_ends_with_its_input(process: Process) -> None:
    process.say(b"garbage\n\n\xff\xfe\n")
    process.greet()
    process.call(2, "codex", prompt="[[say:T]]")
    assert process.answer(2)["result"]["content"] == [{"type": "text", "text": "T"}]
    status, rest, noise = process.end()
    assert (status, rest) == (0, [])
    assert "light=True" in noise
    assert "Traceback" not in noise


def test_input_may_end_without_a_line_feed_and_its_last_call_is_answered(process: Process) -> None:
    process.greet()
    params = {"name": "codex", "arguments": {"prompt": "[[say:T]]"}}
    process.say(json.dumps({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": params}).encode())
    status, rest, _ = process.end()
    assert status == 0
    assert json.loads(rest[-1])["result"]["structuredContent"]["content"] == "T"


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_interrupts_records_answers_and_ends(process: Process, number: int, status: int) -> None:
    process.greet()
    process.call(2, "codex", prompt="[[hold]]")
    process.until_running()
    process.process.send_signal(number)
    assert process.answer(2)["result"]["content"][0]["text"] == "The turn was interrupted."
    assert process.process.wait() == status
    assert process.recorded() == ["interrupted"]
    process.end()


def test_a_signal_while_nothing_runs_ends_though_the_input_stays_open(process: Process) -> None:
    process.greet()
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait() == 143
    process.end()


def test_a_reader_that_went_away_does_not_keep_the_process(tmp_path: Path) -> None:
    process = Process(tmp_path, "interrupt")
    process.greet()
    process.call(2, "codex", prompt="[[hold]]")
    process.until_running()
    assert process.process.stdout is not None
    process.process.stdout.close()
    process.say({"jsonrpc": "2.0", "id": 3, "method": "ping"})
    assert process.process.wait() == 0
    assert process.recorded() == ["interrupted"]
    assert process.process.stdin is not None
    process.process.stdin.close()
    assert process.process.stderr is not None
    process.process.stderr.close()
    process.timer.cancel()


def test_a_thread_outlives_its_process(tmp_path: Path) -> None:
    first = Process(tmp_path)
    first.greet()
    first.call(2, "codex", prompt="[[say:before]]")
    thread = first.answer(2)["result"]["structuredContent"]["threadId"]
    first.process.kill()
    first.end()
    second = Process(tmp_path)
    second.greet()
    second.call(2, "thread_wait", threadId=thread)
    assert second.answer(2)["result"]["structuredContent"]["content"] == "before"
    second.call(3, "codex-reply", threadId=thread, prompt="[[say:after]]")
    assert second.answer(3)["result"]["structuredContent"] == {"threadId": thread, "content": "after"}
    assert second.end()[0] == 0


@pytest.fixture
def nowhere() -> Generator[TextIO]:
    with Path(os.devnull).open("w") as errors:
        yield errors


@pytest.mark.anyio
async def test_the_official_client_talks_to_the_process_and_can_approve(tmp_path: Path, nowhere: TextIO) -> None:
    for name in ("home", "threads"):
        (tmp_path / name).mkdir()

    async def accept(context: Any, params: Any) -> types.ElicitResult:
        return types.ElicitResult(action="accept", content={})

    arguments = [str(HERE / "served.py"), str(tmp_path / "home"), str(tmp_path / "threads")]
    parameters = StdioServerParameters(command=sys.executable, args=arguments)
    async with (
        stdio_client(parameters, errlog=nowhere) as (read, write),
        ClientSession(read, write, elicitation_callback=accept) as session,
    ):
        await session.initialize()
        result = await session.call_tool("codex", {"prompt": "[[ask:x]][[say:done]]"})
        assert result.content[0].model_dump()["text"] == "done"


def test_preparing_is_lighter_than_the_plain_import_and_falls_back() -> None:
    script = """
import sys
from clew.server.mcp.lean import prepare
import clew.server.mcp.lean as lean
if {broken}:
    lean._NEEDED_BARE = "mcp.server.lowlevel.no_such_module"
light = prepare()
import clew.server.mcp.serve
late = [name for name in ("httpx2", "zstandard", "clew.store", "clew.agent") if name in sys.modules]
assert light == (late == []) or not light, late
import mcp.server.lowlevel
heavy = [name for name in ("httpx2", "mcp.client.session", "mcp.server.mcpserver") if name in sys.modules]
print(light, len(heavy), mcp.server.lowlevel.Server.__name__, prepare())
"""
    outcomes = [
        subprocess.run(
            [sys.executable, "-c", script.replace("{broken}", str(broken))], capture_output=True, text=True, check=True
        ).stdout.split()
        for broken in (False, True)
    ]
    assert outcomes == [["True", "0", "Server", "False"], ["False", "3", "Server", "False"]]
