"""The door of the tools: what the model is told, bad calls, order; and the small parts behind it."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_bench import Bench, plain

from clew.agent.sandbox import Confinement, Mechanism
from clew.agent.tools import ToolBox, ToolCall, ToolContext, ToolOutcome
from clew.agent.tools.buffers import HeadTail
from clew.agent.tools.truncation import Truncation, budget_for, count_tokens, truncate
from clew.errors import DiskFull
from clew.events import Event
from clew.history.truncation import TruncationPolicy

pytestmark = pytest.mark.anyio

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def shape(spec: dict[str, Any]) -> dict[str, Any]:
    """A tool's description without its prose."""
    text = json.dumps(spec)
    return json.loads(re.sub(r'"(description|definition)": "(?:[^"\\]|\\.)*"', r'"\1": ""', text))


async def test_the_tools_are_described_in_the_recorded_shape(shared: Path, bench: Bench) -> None:
    recorded: dict[str, Any] = json.loads((shared / "corpus/wire/tools-default.json").read_text())
    wanted = {tool["name"]: shape(tool) for tool in recorded["tools"] if "name" in tool}
    names = ["exec_command", "write_stdin", "apply_patch", "view_image"]
    assert [shape(spec) for spec in bench.box.specs()] == [wanted[name] for name in names]


async def test_the_patch_tool_has_a_function_form(bench: Bench) -> None:
    (spec,) = [spec for spec in bench.box.specs(freeform_patch=False) if spec["name"] == "apply_patch"]
    assert (spec["type"], spec["parameters"]["required"]) == ("function", ["input"])


@pytest.mark.parametrize(
    ("kind", "namespace", "name", "arguments", "output"),
    [
        ("function", None, "update_plan", "{}", "unsupported call: update_plan"),
        ("function", "clock", "sleep", "{}", "unsupported call: clocksleep"),
        ("custom", None, "frobnicate", "x", "unsupported custom tool call: frobnicate"),
        ("custom", None, "exec_command", "ls", "exec_command must be called as a function call"),
        (
            "function", None, "exec_command", "no json",
            "failed to parse function arguments: JSON is malformed: invalid character (byte 4)",
        ),
        (
            "function", None, "exec_command", "{}",
            "failed to parse function arguments: missing field `cmd` at line 1 column 2",
        ),
        (
            "function", None, "write_stdin", '{"session_id": "x"}',
            "failed to parse function arguments: Expected `float`, got `str` - at `$.session_id`",
        ),
        ("function", None, "write_stdin", '{"session_id": 7}', "write_stdin failed: Unknown process id 7"),
    ],
)  # fmt: skip
async def test_bad_calls_are_answered(
    bench: Bench,
    kind: Literal["function", "custom"],
    namespace: str | None,
    name: str,
    arguments: str,
    output: str,
) -> None:
    call = ToolCall(kind=kind, name=name, namespace=namespace, arguments=arguments, call_id="c")
    assert await bench.box.run(call, bench.ctx()) == ToolOutcome(output=output, success=False)
    assert bench.events == []


async def test_unknown_arguments_are_ignored(bench: Bench) -> None:
    assert (await bench.run("true", frobnicate=1)).success


class Gate:
    """A tool whose calls report when they begin, and end when told."""

    kinds: frozenset[Literal["function", "custom"]] = frozenset({"function"})

    def __init__(self, name: str, parallel: bool, run: Callable[[str], Awaitable[None]]) -> None:
        self.name = name
        self.parallel = parallel
        self._run = run

    def spec(self) -> dict[str, Any]:
        return {"type": "function", "name": self.name}

    async def run(self, call: ToolCall, ctx: ToolContext) -> ToolOutcome:
        await self._run(call.call_id)
        return ToolOutcome(output=call.call_id, success=True)


async def test_calls_share_or_wait_in_the_order_of_their_arrival(bench: Bench) -> None:
    begun: list[str] = []
    ends: dict[str, anyio.Event] = {}

    async def hold(call_id: str) -> None:
        begun.append(call_id)
        ends[call_id] = anyio.Event()
        await ends[call_id].wait()

    extra = [Gate("read", True, hold), Gate("write", False, hold)]
    box = ToolBox({}, confinement=Confinement(mechanism=Mechanism.NONE, reason=""), extra=extra)
    calls = ["read-1", "read-2", "write-3", "read-4", "write-5", "write-6"]

    async def run(call_id: str) -> None:
        call = ToolCall(kind="function", name=call_id.partition("-")[0], arguments="{}", call_id=call_id)
        assert (await box.run(call, bench.ctx())).output == call_id

    async def settled(*wanted: str) -> None:
        await anyio.wait_all_tasks_blocked()
        assert begun == list(wanted)
        begun.clear()

    async with anyio.create_task_group() as group:
        scopes: dict[str, anyio.CancelScope] = {}

        async def scoped(call_id: str) -> None:
            with anyio.CancelScope() as scopes[call_id]:
                await run(call_id)

        for call_id in calls:
            group.start_soon(scoped, call_id)
        await settled("read-1", "read-2")
        ends["read-2"].set()
        await settled()
        ends["read-1"].set()
        await settled("write-3")
        scopes["write-5"].cancel()
        await settled()
        ends["write-3"].set()
        await settled("read-4")
        ends["read-4"].set()
        await settled("write-6")
        ends["write-6"].set()


async def test_a_patch_waits_for_the_commands_before_it(bench: Bench) -> None:
    gate = bench.project / "gate"
    outputs: list[object] = []

    async def first() -> None:
        outputs.append(
            plain((await bench.run(f"while [ ! -e {gate} ]; do sleep 0.01; done; ls new; echo done")).output)
        )

    async def second() -> None:
        patch = "*** Begin Patch\n*** Add File: new\n+1\n*** End Patch"
        outputs.append(plain((await bench.run(f"apply_patch <<'EOF'\n{patch}\nEOF")).output))

    async with anyio.create_task_group() as group:
        group.start_soon(first)
        group.start_soon(second)
        await anyio.wait_all_tasks_blocked()
        gate.touch()
    assert [str(output).splitlines()[-1] for output in outputs] == ["done", "A new"]
    assert "cannot access" in str(outputs[0])


async def test_a_listener_that_fails_is_not_taken_for_the_tools_failure(bench: Bench) -> None:
    def fail(_event: Event) -> None:
        raise DiskFull("/log")

    bench.on_event = fail
    with pytest.raises(DiskFull):
        await bench.run("sleep 60")
    bench.on_event = lambda _event: None


async def test_an_image_is_shown_to_the_model(bench: Bench) -> None:
    path = bench.project / "p.png"
    path.write_bytes(PIXEL)
    outcome = await bench.call("view_image", {"path": "p.png"})
    url = f"data:image/png;base64,{base64.b64encode(PIXEL).decode()}"
    assert outcome.output == [{"type": "input_image", "image_url": url, "detail": "high"}]
    assert outcome.finished is not None
    assert outcome.finished.recorded == {"type": "ImageView", "id": "call-1", "path": path.as_uri()}
    assert outcome.finished.item.to_json() == {"type": "imageView", "id": "call-1", "path": str(path)}


async def test_what_is_no_image_is_refused_in_words(bench: Bench) -> None:
    (bench.project / "text").write_text("hello")

    async def ask(path: str) -> object:
        return (await bench.call("view_image", {"path": path})).output

    assert await ask("text") == "unable to process image: invalid or unsupported image data"
    assert await ask("absent.png") == (
        f"unable to locate image at `{bench.project}/absent.png`: No such file or directory (os error 2)"
    )
    assert await ask(".") == f"image path `{bench.project}` is not a file"
    bench.context = {"images": False}
    assert await ask("text") == "view_image is not allowed because you do not support image inputs"


# --- limits


def test_budgets_take_the_smaller_of_what_is_asked_and_what_the_model_allows() -> None:
    tokens, size = TruncationPolicy("tokens", 100), TruncationPolicy("bytes", 100)
    assert budget_for(tokens, None) == Truncation(400, "tokens")
    assert budget_for(tokens, 10) == Truncation(40, "tokens")
    assert budget_for(size, None) == Truncation(100, "chars")
    assert budget_for(size, 0) == Truncation(0, "tokens")
    assert budget_for(TruncationPolicy("tokens", 50_000), None) == Truncation(40_000, "tokens")


@given(st.text(max_size=80), st.integers(0, 60), st.sampled_from(["tokens", "chars"]))
def test_what_is_cut_and_what_is_kept_make_up_the_text(text: str, limit: int, unit: Literal["tokens", "chars"]) -> None:
    limit = limit // 4 * 4 if unit == "tokens" else limit
    budget = Truncation(limit, unit)
    data = text.encode()
    if len(data) <= limit:
        assert truncate(text, budget) == text
        return
    head, marker, tail = re.split(r"…(\d+) (?:tokens|chars) truncated…", budget.cut(text), maxsplit=1)
    assert text.startswith(head)
    assert text.endswith(tail)
    assert len(head.encode()) <= limit // 2
    assert len(tail.encode()) <= limit - limit // 2
    assert int(marker) == (-(-(len(data) - limit) // 4) if unit == "tokens" else len(text) - len(head) - len(tail))
    assert truncate(text, budget).startswith(
        f"Warning: truncated output (original token count: {count_tokens(text)})\n"
    )


@given(st.lists(st.binary(max_size=30), max_size=20), st.integers(2, 40))
def test_the_buffer_keeps_both_ends(chunks: list[bytes], limit: int) -> None:
    buffer = HeadTail(limit)
    for chunk in chunks:
        buffer.append(chunk)
    data = b"".join(chunks)
    half = limit // 2
    assert buffer.total == len(data)
    assert buffer.omitted == max(0, len(data) - limit)
    wanted = data.decode("utf-8", "replace")
    if len(data) > limit:
        head, tail = (
            data[:half].decode("utf-8", "replace"),
            data[len(data) - (limit - half) :].decode("utf-8", "replace"),
        )
        wanted = f"{head}\n... {len(data) - limit} bytes omitted ...\n{tail}"
    assert buffer.take().text() == wanted
    assert (buffer.total, buffer.text()) == (0, "")
