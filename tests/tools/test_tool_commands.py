"""Commands: what the model is told, what people see, and that nothing is left behind."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from tool_bench import Bench, plain

from clew.agent.tools import ToolOutcome
from clew.events import Event, OutputDelta
from clew.history.truncation import TruncationPolicy
from clew.settings import SandboxMode

pytestmark = pytest.mark.anyio


def answer(body: str, *, code: int = 0, tokens: int | None = None) -> str:
    count = -(-len(body.encode()) // 4) if tokens is None else tokens
    return (
        f"Chunk ID: C\nWall time: T seconds\nProcess exited with code {code}\n"
        f"Original token count: {count}\nOutput:\n{body}"
    )


def session_of(output: object) -> int:
    assert isinstance(output, str)
    match = re.search(r"^Process running with session ID (\d+)$", output, re.MULTILINE)
    assert match
    return int(match[1])


def alive(pid: int) -> bool:
    """Whether the process runs: a dead one that its parent has not collected yet does not count."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(4):
        while not condition():  # noqa: ASYNC110 - other processes set no events
            await anyio.sleep(0.01)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_command_answers_with_its_output_and_exit_code(bench: Bench) -> None:
    outcome = await bench.run("echo one; echo two >&2; exit 3")
    assert plain(outcome.output) == answer("one\ntwo\n", code=3)
    assert (outcome.success, outcome.aborted) == (False, False)
    assert outcome.finished is not None
    fields = dict(outcome.finished.item.fields)
    session = fields.pop("processId")
    assert 1_000 <= int(session) <= 99_999
    assert fields.pop("durationMs") >= 0
    assert fields.pop("startedAtMs") <= fields.pop("completedAtMs")
    assert fields == {
        "pluginId": None,
        "scriptPath": None,
        "command": "/bin/bash -c 'echo one; echo two >&2; exit 3'",
        "cwd": str(bench.project),
        "source": "unifiedExecStartup",
        "status": "failed",
        "commandActions": [{"type": "unknown", "command": "echo one; echo two >&2; exit 3"}],
        "aggregatedOutput": "one\ntwo\n",
        "exitCode": 3,
    }
    recorded = dict(outcome.finished.recorded)
    assert set(recorded.pop("duration")) == {"secs", "nanos"}
    assert recorded == {
        "type": "CommandExecution",
        "id": "call-1",
        "process_id": session,
        "command": ["/bin/bash", "-c", "echo one; echo two >&2; exit 3"],
        "cwd": bench.project.as_uri(),
        "parsed_cmd": [{"type": "unknown", "cmd": "echo one; echo two >&2; exit 3"}],
        "source": "unified_exec_startup",
        "status": "failed",
        "aggregated_output": "one\ntwo\n",
        "exit_code": 3,
    }
    assert bench.items == [("started", "call-1", "inProgress"), ("completed", "call-1", "failed")]
    assert bench.live == "one\ntwo\n"


async def test_a_silent_success_has_no_output_in_its_item(bench: Bench) -> None:
    outcome = await bench.run("true")
    assert plain(outcome.output) == answer("")
    assert outcome.item is not None
    assert (outcome.item.fields["status"], outcome.item.fields["aggregatedOutput"]) == ("completed", None)


async def test_the_login_shell_is_the_default_and_another_shell_may_be_named(bench: Bench) -> None:
    outcome = await bench.call("exec_command", {"cmd": "shopt -q login_shell && echo login"})
    assert plain(outcome.output).endswith("login\n")
    assert outcome.item is not None
    assert outcome.item.fields["command"] == "/bin/bash -lc 'shopt -q login_shell && echo login'"
    assert plain((await bench.run("echo $0", shell="/bin/sh")).output) == answer("/bin/sh\n")


async def test_the_environment_is_quiet_and_names_the_call(bench: Bench) -> None:
    bench.context = {"session_id": "root-1"}
    outcome = await bench.run("env | grep -vE '^(PATH|HOME|PWD|SHLVL|_|OLDPWD)=' | LC_ALL=C sort")
    assert plain(outcome.output).partition("Output:\n")[2].splitlines() == [
        "CODEX_CI=1",
        "CODEX_SESSION_ID=root-1",
        "CODEX_THREAD_ID=thread-1",
        "CODEX_TOOL_CALL_ID=call-1",
        "COLORTERM=",
        "GH_PAGER=cat",
        "GIT_PAGER=cat",
        "LANG=C.UTF-8",
        "LC_ALL=C.UTF-8",
        "LC_CTYPE=C.UTF-8",
        "NO_COLOR=1",
        "PAGER=cat",
        "TERM=dumb",
    ]


async def test_the_directory_is_the_turns_own_or_the_one_named(bench: Bench) -> None:
    (bench.project / "sub").mkdir()
    assert plain((await bench.run("pwd")).output) == answer(f"{bench.project}\n")
    assert plain((await bench.run("pwd", workdir="sub")).output) == answer(f"{bench.project}/sub\n")
    outcome = await bench.run("pwd", workdir="nowhere")
    assert outcome.output == (
        'exec_command failed: CreateProcess { message: "Rejected(\\"Failed to create unified exec process: '
        'No such file or directory (os error 2)\\")" }'
    )
    assert outcome.finished is None


async def test_signals_show_in_the_exit_code_and_bad_bytes_are_replaced(bench: Bench) -> None:
    assert plain((await bench.run("kill -9 $$")).output) == answer("", code=137)
    assert plain((await bench.run(r"printf 'a\377b\n'")).output) == answer("a\ufffdb\n")


async def test_standard_input_is_closed_without_a_terminal(bench: Bench) -> None:
    assert plain((await bench.run("cat; echo end")).output) == answer("end\n")


async def test_a_command_that_runs_on_is_polled_to_its_end(bench: Bench) -> None:
    gate = bench.project / "gate"
    first = await bench.run(f"echo a; while [ ! -e {gate} ]; do sleep 0.01; done; echo b", yield_time_ms=250)
    session = session_of(first.output)
    assert first.finished is None
    assert plain(first.output).endswith("Original token count: 1\nOutput:\na\n")
    gate.touch()
    second = await bench.call("write_stdin", {"session_id": session})
    assert plain(second.output) == answer("b\n")
    assert second.finished is not None
    assert second.finished.item.id == "call-1"
    assert second.finished.item.fields["aggregatedOutput"] == "a\nb\n"
    assert bench.live == "a\nb\n"
    gone = await bench.call("write_stdin", {"session_id": session})
    assert gone.output == f"write_stdin failed: Unknown process id {session}"


async def test_a_session_belongs_to_its_thread(bench: Bench) -> None:
    session = session_of((await bench.run("sleep 60", yield_time_ms=250)).output)
    bench.thread_id = "thread-2"
    other = await bench.call("write_stdin", {"session_id": session})
    assert other.output == f"write_stdin failed: Unknown process id {session}"


async def test_pipes_take_no_text_but_an_interrupt(bench: Bench) -> None:
    session = session_of((await bench.run("sleep 60", yield_time_ms=250)).output)
    refused = await bench.call("write_stdin", {"session_id": session, "chars": "hello\n"})
    assert refused.output == (
        "write_stdin failed: stdin is closed for this session; rerun exec_command with tty=true to keep stdin open"
    )
    ended = await bench.call("write_stdin", {"session_id": session, "chars": "\u0003", "yield_time_ms": 5000})
    assert plain(ended.output) == answer("", code=130)


async def test_a_terminal_echoes_and_can_be_typed_into(bench: Bench) -> None:
    first = await bench.run("tty >/dev/tty && read word; echo got $word", tty=True, yield_time_ms=250)
    session = session_of(first.output)
    assert "/dev/" in plain(first.output)
    second = await bench.call("write_stdin", {"session_id": session, "chars": "yes\n", "yield_time_ms": 5000})
    assert plain(second.output) == answer("yes\r\ngot yes\r\n")


async def test_control_c_reaches_the_foreground_of_a_terminal(bench: Bench) -> None:
    session = session_of((await bench.run("sleep 60", tty=True, yield_time_ms=250)).output)
    ended = await bench.call("write_stdin", {"session_id": session, "chars": "\u0003", "yield_time_ms": 5000})
    assert "Process exited with code 130" in plain(ended.output)


async def test_a_terminal_takes_interrupts_where_clew_ignores_them(bench: Bench) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        session = session_of((await bench.run("sleep 60", tty=True, yield_time_ms=250)).output)
        ended = await bench.call("write_stdin", {"session_id": session, "chars": "\u0003", "yield_time_ms": 5000})
    finally:
        signal.signal(signal.SIGINT, before)
    assert "Process exited with code 130" in plain(ended.output)


async def test_output_over_the_budget_is_cut_in_the_middle(bench: Bench) -> None:
    bench.context = {"policy": TruncationPolicy("bytes", 2000)}
    text = "".join(f"{number}\n" for number in range(1, 3001))
    head, tail = text[:1000], text[-1000:]
    warning = "Warning: truncated output (original token count: 3474)\nTotal output lines: 3000\n\n"
    cut = answer(f"{warning}{head}…11893 chars truncated…{tail}", tokens=3474)
    assert plain((await bench.run("seq 1 3000")).output) == cut
    assert plain((await bench.run("seq 1 3000", max_output_tokens=100_000)).output) == cut
    nothing = answer(f"{warning}…3474 tokens truncated…", tokens=3474)
    assert plain((await bench.run("seq 1 3000", max_output_tokens=0)).output) == nothing


async def test_a_hundred_megabytes_cost_neither_memory_nor_the_loop(bench: Bench) -> None:
    late = 0.0
    done = anyio.Event()

    async def tick() -> None:
        nonlocal late
        while not done.is_set():
            before = time.monotonic()
            await anyio.sleep(0.005)
            late = max(late, time.monotonic() - before)

    outcome: ToolOutcome | None = None
    async with anyio.create_task_group() as group:
        group.start_soon(tick)
        outcome = await bench.run("yes 0123456789abcdef | head -c 100000000", max_output_tokens=10)
        done.set()
    assert late < 1
    assert outcome is not None
    assert outcome.item is not None
    kept = outcome.item.fields["aggregatedOutput"]
    assert f"\n... {100_000_000 - 1024 * 1024} bytes omitted ...\n" in kept
    assert len(kept) < 1024 * 1024 + 100
    assert plain(outcome.output) == (
        "Chunk ID: C\nWall time: T seconds\nProcess exited with code 0\nOriginal token count: 25000000\nOutput:\n"
        "Warning: truncated output (original token count: 25000000)\n"
        f"... {100_000_000 - 1024 * 1024} bytes omitted ...\n\n"
        "0123456789abcdef\n012…262142 tokens truncated…def\n0123456789abcdef"
    )
    assert sum(len(event.text) for event in bench.events if isinstance(event, OutputDelta)) < 20_000_000


async def test_an_interruption_kills_the_whole_group(bench: Bench) -> None:
    pids: list[int] = []

    def listen(event: Event) -> None:
        if isinstance(event, OutputDelta) and event.text.count("\n"):
            pids.extend(int(word) for word in event.text.split())
            bench.stop.set()

    bench.on_event = listen
    with anyio.fail_after(4):
        outcome = await bench.run("sleep 60 & trap '' TERM; echo $$ $!; sleep 60; echo never")
    assert plain(outcome.output) == "Wall time: T seconds\naborted by user"
    assert (outcome.success, outcome.aborted) == (False, True)
    assert outcome.item is not None
    assert (outcome.item.fields["status"], outcome.item.fields["exitCode"]) == ("failed", -1)
    assert bench.items[-1] == ("completed", "call-1", "failed")
    assert len(pids) == 2
    await until(lambda: not any(alive(pid) for pid in pids))
    assert (await bench.run("echo no")).output == "Wall time: 0.1 seconds\naborted by user"


async def test_a_cancelled_task_takes_its_command_along(bench: Bench) -> None:
    marker = bench.project / "pid"
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(bench.run, f"echo $$ > {marker}; exec sleep 60")
            await until(lambda: marker.exists() and marker.read_text().strip())
            scope.cancel()
    assert not alive(int(marker.read_text()))


async def test_children_left_in_the_background_live_until_the_box_is_closed(bench: Bench) -> None:
    outcome = await bench.run("sleep 60 >/dev/null 2>&1 & echo $!")
    pid = int(plain(outcome.output).splitlines()[-1])
    assert "Process exited with code 0" in plain(outcome.output)
    assert alive(pid)
    held = await bench.run("sleep 61 & echo $!")
    other = int(plain(held.output).splitlines()[-1])
    await bench.box.close()
    await until(lambda: not alive(pid) and not alive(other))


async def test_closing_kills_what_runs_and_starts_nothing_more(bench: Bench) -> None:
    first = await bench.run("echo $$; sleep 60", yield_time_ms=250)
    pid = int(plain(first.output).splitlines()[-1])
    finished = await bench.box.close(bench.ctx())
    assert [(end.item.id, end.item.fields["exitCode"]) for end in finished] == [("call-1", -1)]
    assert not alive(pid)
    assert plain((await bench.run("echo again")).output) == answer("again\n")
    await bench.box.close()
    assert "the session was closed" in str((await bench.run("true")).output)


async def test_a_command_that_ended_unseen_is_collected_and_can_still_be_asked(bench: Bench) -> None:
    gate = bench.project / "gate"
    first = await bench.run(f"while [ ! -e {gate} ]; do sleep 0.01; done; echo late", yield_time_ms=250)
    assert await bench.box.collect(bench.ctx()) == []
    gate.touch()
    found: list[str] = []
    with anyio.fail_after(4):
        while not found:
            found = [end.item.fields["aggregatedOutput"] for end in await bench.box.collect(bench.ctx())]
            await anyio.sleep(0.01)
    assert found == ["late\n"]
    assert bench.items[-1] == ("completed", "call-1", "completed")
    assert await bench.box.collect(bench.ctx()) == []
    last = await bench.call("write_stdin", {"session_id": session_of(first.output)})
    assert (plain(last.output), last.finished) == (answer("late\n"), None)
    assert [item for item in bench.items if item[0] == "completed"] == [("completed", "call-1", "completed")]


async def test_no_descriptors_and_threads_are_left(bench: Bench) -> None:
    await bench.run("true")
    before = descriptors()
    for tty in (False, True):
        await bench.run("echo x", tty=tty)
        session = session_of((await bench.run("sleep 60", tty=tty, yield_time_ms=250)).output)
        await bench.call("write_stdin", {"session_id": session, "chars": "\u0003", "yield_time_ms": 5000})
    await bench.box.close()
    assert descriptors() == before


async def test_the_least_recently_used_session_goes_when_there_are_too_many(bench: Bench) -> None:
    from clew.agent.tools import process_table

    assert process_table.MOST_PROCESSES == 64
    bench.mode = SandboxMode.FULL_ACCESS
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(process_table, "MOST_PROCESSES", 3)
        patch.setattr(process_table, "SAFE_RECENT", 1)
        sessions = [session_of((await bench.run("sleep 60", yield_time_ms=250)).output) for _ in range(3)]
        poll = {"session_id": sessions[0], "chars": "x"}
        assert "stdin is closed" in str((await bench.call("write_stdin", poll)).output)
        await bench.run("true")
    gone = await bench.call("write_stdin", {"session_id": sessions[1]})
    assert gone.output == f"write_stdin failed: Unknown process id {sessions[1]}"
    assert "stdin is closed" in str((await bench.call("write_stdin", poll)).output)
