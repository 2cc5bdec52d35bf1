"""The threads that `docs/files.md` shows, as clew writes them: real turns with a fixed clock, ids and answers.

`python tests/docs/recorded_examples.py` prints them, for whoever brings the document up to date.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any, cast

import anyio
import msgspec

from clew.agent.model.contracts import Completed, Created, ItemDone, ModelEvent, ModelRequest, Opened
from clew.app import open_threads
from clew.config import load
from clew.engine import Approver
from clew.errors import Owner
from clew.events import ApprovalRequest, Decision, TurnInput, Usage
from clew.ids import uuid7_at
from clew.rollout import Home, NameIndex, RealFileSystem, Waiting, WaitingLine, WriterLock
from clew.settings import Overrides
from clew.testing.builders import ThreadBuilder

BEGINNING = 1_782_907_200.0  # 2026-07-01T12:00:00Z
_LONGEST = 39
_DIGEST = re.compile(r"[0-9a-f]{40}")
_OFFSET = re.compile(r'"end_byte_offset":\d+')
_KEPT = re.compile(r"(?:msg_)?[0-9a-f]{8}-[0-9a-f-]{27}|/\S*")


class StoppedClock:
    def now(self) -> float:
        return BEGINNING

    def monotonic(self) -> float:
        return BEGINNING


class CountingIds:
    def __init__(self) -> None:
        self._count = 0

    def uuid7(self) -> str:
        self._count += 1
        return uuid7_at(int(BEGINNING * 1000) + self._count, bytes(9) + bytes([self._count]))


class OneAnswer:
    """A model that says one thing."""

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        message: dict[str, Any] = {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Done.", "annotations": []}],
        }
        yield Opened()
        yield Created("resp_1")
        yield ItemDone(msgspec.json.encode(message), message)
        yield Completed(response_id="resp_1", usage=Usage(input_tokens=900, output_tokens=100, total_tokens=1000))

    async def close(self) -> None:
        return


class _Nobody(Approver):
    async def decide(self, request: ApprovalRequest) -> Decision:
        return Decision.DENY


def recorded(root: Path) -> dict[str, list[str]]:
    """What is written, by the name of the example; below an empty folder. The time zone must be UTC."""
    codex, clew, project = root / "codex", root / "clew", root / "project"
    for folder in (codex, clew, project):
        folder.mkdir()
    (codex / "config.toml").write_text('model_provider = "offline"\nbase_instructions = "Be brief."\n')
    out: dict[str, list[str]] = {}
    shown = {str(project): "/home/ada/project", str(codex): "/home/ada/.codex", str(clew): "/home/ada/.clew"}

    def keep(name: str, data: bytes) -> None:
        out[name] = [_shortened_line(line, shown) for line in data.decode().splitlines()]

    home = Home(RealFileSystem(), codex)

    async def turns() -> None:
        env = {"CODEX_HOME": str(codex), "CLEW_HOME": str(clew), "HOME": str(root), "SHELL": "/bin/bash", "TZ": "UTC"}
        config = load(env)
        clients = {"offline": OneAnswer()}
        async with open_threads(
            config, env, program="clew exec", clients=clients, clock=StoppedClock(), ids=CountingIds()
        ) as threads:
            settings = config.settings(project)
            thread = await threads.start(settings, source="exec", originator="clew_exec")
            await thread.run(TurnInput(text="Go on.", trigger="exec"), approver=_Nobody()).wait()
            path = Path((await threads.summary(thread.id)).path)
            keep("paginated", path.read_bytes())
            out["path"] = [str(path).replace(str(codex), "/home/ada/.codex")]
            fork = await threads.fork(thread.id)
            keep("fork", Path((await threads.summary(fork)).path).read_bytes())

            old = ThreadBuilder("0.142", cwd=str(project), start=BEGINNING - 86400).turn("First?", "One.")
            old_path = old.write(home)
            before = old_path.stat().st_size
            continued = await threads.open(old.id, settings, Overrides(provider="offline", endpoint=settings.endpoint))
            await continued.run(TurnInput(text="Go on.", trigger="exec"), approver=_Nobody()).wait()
            keep("legacy", old_path.read_bytes()[before:])

    anyio.run(turns)
    thread_id = CountingIds()
    first = [thread_id.uuid7() for _ in range(2)][1]
    NameIndex(home).rename(first, "parser", StoppedClock())
    keep("names", (codex / "session_index.jsonl").read_bytes())
    since, turn = "2026-07-01T12:00:00.000Z", thread_id.uuid7()
    lock = WriterLock.acquire(home, clew, first, Owner("clew mcp", 4711, "tower", since, turn))
    try:
        keep("owner", (clew / "owners" / f"{first}.json").read_bytes())
        line = WaitingLine(home.fs, clew, first)
        line.write([Waiting("clew exec", 4712, "tower", since, ticket="5f0e1c22a98b41d7")])
        keep("wanted", line.path.read_bytes())
    finally:
        lock.release()
    return out


def _shortened_line(line: str, shown: Mapping[str, str]) -> str:
    """A line as the document shows it: folders of an example, long texts and digests cut, the rest to the byte."""
    for real, example in shown.items():
        line = line.replace(real, example)
    # It follows the lengths of the texts that are cut here.
    line = _OFFSET.sub('"end_byte_offset":8192', line)
    value = msgspec.json.decode(line)
    short = _shortened(value)
    # Only lines with something to shorten are written anew, in the same compact form.
    return line if short == value else msgspec.json.encode(short).decode()


def _shortened(value: Any) -> Any:
    if isinstance(value, str):
        if _DIGEST.fullmatch(value):
            return "…"
        return value if len(value) <= _LONGEST or _KEPT.fullmatch(value) else f"{value[:24]}…"
    if isinstance(value, dict):
        return {key: _shortened(inner) for key, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_shortened(inner) for inner in cast("list[Any]", value)]
    return value


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        for name, lines in recorded(Path(folder)).items():
            print(f"--- {name}", *lines, sep="\n")  # noqa: T201 - printing is what it is for
