"""What people see of `clew exec`."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from inline_snapshot import snapshot

from clew.cli.exec_view import HumanView, JsonView
from clew.events import (
    Event,
    Item,
    ItemCompleted,
    ItemStarted,
    Notice,
    TextDelta,
    TurnEnded,
    TurnError,
    TurnResult,
    TurnStarted,
    Usage,
    UsageUpdated,
)
from clew.settings import Sandbox, SandboxMode, Settings

_SETTINGS = Settings(
    cwd="/home/me/project",
    model="gpt-5",
    provider="openai",
    effort="high",
    sandbox=Sandbox(mode=SandboxMode.WORKSPACE_WRITE, writable_roots=("/data",), network_access=True),
)
_RESULT = TurnResult(thread_id="th-1", turn_id="t", status="completed", last_message="It is 41.")


def _message(item_id: str, text: str, phase: str | None = None) -> list[Event]:
    return [
        ItemStarted("t", Item(item_id, "agentMessage", {"text": "", "phase": phase})),
        *(TextDelta("t", item_id, piece) for piece in (text[:3], text[3:])),
        ItemCompleted("t", Item(item_id, "agentMessage", {"text": text, "phase": phase})),
    ]


_COMMAND: dict[str, Any] = {"command": "/bin/bash -lc 'make'"}
_EVENTS: Sequence[Event] = (
    TurnStarted("th-1", "t"),
    ItemCompleted("t", Item("u", "userMessage", {"content": []})),
    ItemCompleted("t", Item("r", "reasoning", {"summary": ["Think"]})),
    *_message("m1", "I look.", "commentary"),
    ItemStarted("t", Item("c", "commandExecution", {**_COMMAND, "status": "inProgress"})),
    ItemCompleted(
        "t",
        Item(
            "c",
            "commandExecution",
            {
                **_COMMAND,
                "status": "failed",
                "exitCode": 2,
                "aggregatedOutput": "\x1b[31mno\x1b[0m rule\n" + "line\n" * 30,
            },
        ),
    ),
    ItemCompleted(
        "t",
        Item(
            "p",
            "fileChange",
            {"changes": [{"path": "/home/me/project/a.py", "kind": {"type": "add"}}], "status": "completed"},
        ),
    ),
    Notice("t", "the endpoint is slow"),
    *_message("m2", "It is 41."),
    UsageUpdated("t", last=Usage(), total=Usage(total_tokens=12345)),
    TurnEnded("t", _RESULT),
)


def _run(view: HumanView | JsonView, result: TurnResult = _RESULT, events: Sequence[Event] = _EVENTS) -> None:
    view.begin("th-1", _SETTINGS, ["this call widened the sandbox"])
    for event in events:
        view.event(event)
    view.end(result)


def test_in_a_pipe_only_the_final_answer_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    _run(HumanView())
    out, err = capsys.readouterr()
    assert out == "It is 41.\n"
    assert err == snapshot("""\
thread   th-1
model    gpt-5 (openai), high
cwd      /home/me/project
sandbox  workspace-write (cwd, /data, network)
approval on-request (nobody can be asked here)

Warning: this call widened the sandbox
Think
I look.
$ /bin/bash -lc 'make'
  no rule
  line
  line
  line
  line
  line
  line
  line
  line
  line
  line
  line
  line
  line
  line
  line
  line
  line
  line
  line
  … 11 more lines
  exit code 2
add /home/me/project/a.py
Warning: the endpoint is slow

12,345 tokens in this thread. Go on with: clew exec resume th-1 …
""")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_on_a_terminal_the_answer_appears_as_it_is_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = _Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    view = HumanView()
    assert view.wants_pieces
    _run(view)
    assert screen.getvalue() == "It is 41.\n"
    assert "I look." in capsys.readouterr().err


def test_a_message_without_pieces_is_shown_when_it_is_complete(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = _Terminal()
    monkeypatch.setattr(sys, "stdout", screen)
    _run(HumanView(), events=[ItemCompleted("t", Item("m", "agentMessage", {"text": "a\x1b]0;evil\x07b"}))])
    assert screen.getvalue() == "ab\n"
    assert "\x1b" not in capsys.readouterr().err


def test_a_failed_turn_prints_its_error_and_no_answer(capsys: pytest.CaptureFixture[str]) -> None:
    failed = TurnResult(
        thread_id="th-1", turn_id="t", status="failed", last_message="half", error=TurnError("the model is gone")
    )
    _run(HumanView(), failed, events=())
    out, err = capsys.readouterr()
    assert (out, "Error: the model is gone\n" in err) == ("", True)


def test_colours_are_for_those_who_want_them(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    _run(HumanView())
    assert "\x1b[2m" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    _run(HumanView())
    assert "\x1b" not in capsys.readouterr().err


def test_json_lines_go_to_standard_output_alone(capsys: pytest.CaptureFixture[str]) -> None:
    _run(JsonView())
    out, err = capsys.readouterr()
    assert err == ""
    assert [json.loads(line)["type"] for line in out.splitlines()][:3] == [
        "thread.started",
        "item.completed",
        "turn.started",
    ]
    assert out.splitlines()[-1].startswith('{"type":"turn.completed","usage":')
