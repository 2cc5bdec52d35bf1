"""The examples in the documents do what the documents show."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any, cast

import pytest
from documents import OURS, ROOT, Block, blocks, normal
from recorded_examples import recorded

from clew.cli.entry import main
from clew.cli.registration import snippets
from clew.config import examine
from clew.rollout import Line, encode_line

_SHELL = [path for path in OURS if any(block.mark == "run" for block in blocks(path))]
_PYTHON = [path for path in OURS if any(block.mark == "python" for block in blocks(path))]
_TOML = [block for path in OURS for block in blocks(path, "toml")]
_JSON = [block for path in OURS for language in ("json", "jsonl") for block in blocks(path, language)]
_MCP = ROOT / "docs" / "mcp.md"
_FILES = ROOT / "docs" / "files.md"


@pytest.mark.parametrize("path", _SHELL, ids=lambda path: path.name)
def test_commands_print_what_is_shown(path: Path, house: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    printed: list[str] = []
    for block in blocks(path):
        if block.mark != "run":
            continue
        for command, output in _commands(block):
            shown.append(f"$ {command}\n{normal(output)}")
            answer = _run(command, monkeypatch).replace(str(house), "/home/ada")
            printed.append(f"$ {command}\n{normal(answer)}")
    assert printed == shown


def _commands(block: Block) -> list[tuple[str, str]]:
    """Command lines and what they print."""
    parts = re.split(r"^\$ ", block.text, flags=re.M)
    assert parts[0] == "", f"{block}: begins with a command"
    return [(part.partition("\n")[0], part.partition("\n")[2]) for part in parts[1:]]


def _run(command: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What a command line prints; clew runs in this process, what stands behind a pipe in a shell."""
    program, _, filtered = command.partition(" | ")
    words = shlex.split(program)
    assert words[0] == "clew", command
    printed, errors = io.BytesIO(), io.BytesIO()
    out = io.TextIOWrapper(printed, "utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(), "utf-8"))
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", io.TextIOWrapper(errors, "utf-8"))
        code = main(words[1:])
        sys.stderr.flush()
        said = errors.getvalue().decode()
    assert code == 0, said
    out.flush()
    data = printed.getvalue()
    if filtered:
        env = {**os.environ, "LC_ALL": "C.UTF-8"}
        data = subprocess.run(["sh", "-c", filtered], input=data, capture_output=True, check=True, env=env).stdout
    return data.decode()


@pytest.mark.parametrize("path", _PYTHON, ids=lambda path: path.name)
def test_python_examples_print_what_is_shown(path: Path, house: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for block in blocks(path, "python"):
        if block.mark != "python":
            continue
        exec(compile(block.text, str(block), "exec"), {"__name__": "__main__"})
        shown = re.findall(r"# → (.*)$", block.text, re.M)
        assert (str(block), capsys.readouterr().out.splitlines()) == (str(block), shown)


def test_every_python_example_runs() -> None:
    marks = {str(block): block.mark for path in OURS for block in blocks(path, "python")}
    assert {place for place, mark in marks.items() if mark != "python"} == set()


def test_the_conversation_with_the_server_goes_as_shown(house: Path) -> None:
    asked = re.findall(
        r"^<!-- (restart|call: \S+|answer) -->\n(?:```json\n(.*?)^```)?", _MCP.read_text(), flags=re.M | re.S
    )
    assert asked, "there is an example"
    server = _Server()
    answer: dict[str, Any] = {}
    try:
        for mark, text in asked:
            if mark == "restart":
                server.kill()
                server = _Server()
            elif mark == "answer":
                assert json.loads(normal(json.dumps(answer))) == json.loads(normal(text))
            else:
                answer = server.call(mark.removeprefix("call: "), json.loads(text))
    finally:
        server.kill()


class _Server:
    """A real `clew mcp`."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "clew", "mcp"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._count = 0
        client = {"name": "docs", "version": "1"}
        self._ask("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client})

    def call(self, tool: str, arguments: dict[str, Any]) -> dict[str, Any]:
        return self._ask("tools/call", {"name": tool, "arguments": arguments})["structuredContent"]

    def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        send, receive = cast("IO[bytes]", self._process.stdin), cast("IO[bytes]", self._process.stdout)
        self._count += 1
        request = {"jsonrpc": "2.0", "id": self._count, "method": method, "params": params}
        send.write(json.dumps(request).encode() + b"\n")
        send.flush()
        reply = json.loads(receive.readline())
        assert reply["id"] == self._count
        return reply["result"]

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()


@pytest.mark.parametrize("block", _TOML, ids=str)
def test_toml_is_a_configuration_that_loads(block: Block, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(block.text)
    env = {"HOME": str(tmp_path), "CODEX_HOME": str(tmp_path), "CLEW_HOME": str(tmp_path / "clew")}
    config, problems = examine(env)
    assert (problems, config.warnings) == ([], ())
    config.provider(config.model_provider)


@pytest.mark.parametrize("block", _JSON, ids=str)
def test_json_is_json(block: Block) -> None:
    if block.language == "json":
        json.loads(block.text)
    else:
        assert [json.loads(line) for line in block.text.splitlines()]


def test_files_are_written_to_the_byte_as_shown(tmp_path: Path, utc: None) -> None:
    shown = {
        block.mark.removeprefix("example: "): block.text.splitlines()
        for block in blocks(_FILES)
        if block.mark.startswith("example: ")
    }
    assert recorded(tmp_path) == shown


def test_a_line_is_written_to_the_byte_as_shown() -> None:
    (block,) = [block for block in blocks(_FILES) if block.mark == "envelope"]
    line = Line("event_msg", {"type": "context_compacted"})
    assert block.text.encode() == encode_line(line, timestamp="2026-07-01T12:00:00.123Z", ordinal=7)


def test_the_readme_registers_the_server_as_doctor_prints_it() -> None:
    shown = [block.text.rstrip("\n") for block in blocks(ROOT / "README.md")]
    told = [snippet["text"] for snippet in snippets(("clew",), ("mcp",))]
    assert [text for text in told if text not in shown] == []
