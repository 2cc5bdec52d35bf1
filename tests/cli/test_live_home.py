"""The commands over a real home: threads made with the offline model, then found, shown and continued."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clew.cli import main, terminal

_OFFLINE = ["-c", "model_provider=offline", "-s", "danger-full-access", "-a", "never"]

Say = Callable[..., str]


@pytest.fixture
def say(homes: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """Run one turn with the offline model; gives the answer. Words in front of the prompt: `resume`, an id."""

    def run(*words: str) -> str:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(words[-1].encode())))
        assert main(["exec", "--skip-git-repo-check", *_OFFLINE, *words[:-1]]) == 0
        return capsys.readouterr().out

    return run


def _listed(capsys: pytest.CaptureFixture[str], *words: str) -> list[dict[str, Any]]:
    assert main(["list", "--json", *words]) == 0
    return json.loads(capsys.readouterr().out)["threads"]


def test_a_thread_is_found_and_remembers(say: Say, capsys: pytest.CaptureFixture[str]) -> None:
    assert say("My favourite number is 41.") == "Noted: your favourite number is 41.\n"
    [thread] = _listed(capsys, "--here")
    assert (thread["source"], thread["preview"]) == ("exec", "My favourite number is 41.")
    for reference in (thread["id"], thread["id"][:13], "last"):
        assert "41" in say("resume", reference, "What is my favourite number?")
    assert "41" in say("resume", "--last", "What is my favourite number?")
    assert len(_listed(capsys)) == 1


def test_what_happened_is_shown(say: Say, homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    say("run: echo one; exit 3")
    say("resume", "last", "say: two")
    assert main(["show", "last", "--turns", "1"]) == 0
    out = capsys.readouterr().out
    assert "… earlier turns: --turns 0 shows all of them" in out
    assert "> say: two\n• two\n" in out
    assert "echo one" not in out
    assert main(["show", "last"]) == 0
    out = capsys.readouterr().out
    assert "'\n  one\n  exit code 3\n" in out
    assert f"folder   {homes}\n" in out
    assert "Go on with: clew exec resume" in out


def test_a_thread_is_shown_as_json_and_as_it_is_on_disk(say: Say, capsys: pytest.CaptureFixture[str]) -> None:
    say("say: one")
    assert main(["show", "last", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [item["type"] for item in told["turns"][0]["items"]] == ["userMessage", "agentMessage"]
    assert told["earlier_turns"] is False
    assert main(["show", "last", "--raw"]) == 0
    assert capsys.readouterr().out.encode() == Path(told["thread"]["path"]).read_bytes()


def test_threads_are_named_put_away_and_copied(say: Say, capsys: pytest.CaptureFixture[str]) -> None:
    say("My favourite number is 41.")
    assert main(["rename", "last", "numbers"]) == 0
    assert main(["fork", "numbers", "--name", "copy"]) == 0
    assert "41" in say("resume", "copy", "What is my favourite number?")
    assert main(["archive", "copy"]) == 0
    capsys.readouterr()
    assert [thread["name"] for thread in _listed(capsys)] == ["numbers"]
    assert {thread["name"] for thread in _listed(capsys, "--all")} == {"numbers", "copy"}
    assert main(["unarchive", "copy"]) == 0
    capsys.readouterr()
    assert len(_listed(capsys, "--search", "favourite")) == 2
    assert main(["inspect", "--all"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_an_unknown_thread_is_not_shown(homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", "nothing"]) == 1
    assert capsys.readouterr() == (
        "",
        "Error: no thread is called nothing\n`clew list` shows the threads of this home.\n",
    )
    assert main(["inspect"]) == 2


def test_an_ephemeral_run_is_not_recorded(say: Say, capsys: pytest.CaptureFixture[str]) -> None:
    assert say("--ephemeral", "say: nothing to see") == "nothing to see\n"
    assert _listed(capsys, "--all") == []


def test_the_answer_follows_a_schema(say: Say, tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    answer = say("--output-schema", str(tmp_path / "schema.json"), "-o", str(tmp_path / "last"), "say: x")
    assert list(json.loads(answer)) == ["a"]
    assert (tmp_path / "last").read_text() == answer.rstrip("\n")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, -signal.SIGTERM)])
def test_signals_end_a_running_command(number: signal.Signals, code: int, homes: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "clew", "exec", "--json", "--skip-git-repo-check", *_OFFLINE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdin is not None
    assert running.stdout is not None
    running.stdin.write(b"run: echo $$ > pid; sleep 100")
    running.stdin.close()
    running.stdin = None
    lines = [running.stdout.readline() for _ in range(3)]
    assert b"in_progress" in lines[-1]
    while not (homes / "pid").is_file() or not (homes / "pid").read_text().strip():
        assert running.poll() is None
    running.send_signal(number)
    out, err = running.communicate(timeout=10)
    assert running.returncode == code
    assert b"turn." not in out
    assert err == b"Reading prompt from stdin...\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int((homes / "pid").read_text()), 0)


def test_a_reader_that_leaves_ends_the_turn(homes: Path) -> None:
    running = subprocess.Popen(
        [sys.executable, "-m", "clew", "exec", "--json", "--skip-git-repo-check", *_OFFLINE, "run: sleep 0.2; echo on"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert running.stdout is not None
    assert running.stderr is not None
    assert b"thread.started" in running.stdout.readline()
    running.stdout.close()
    assert running.wait(10) == 1
    assert running.stderr.read() == b""
    running.stderr.close()


def test_the_server_takes_the_flags_people_register(homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["-m", "named", "mcp-server", "--strict-config", "-c", "model_provider=offline", "-a", "never"]
    calls = [
        {
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-06-18",
                "capabilities": {},
                "clientInfo": {"name": "t", "version": "1"},
            },
        },
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/call", "params": {"name": "codex", "arguments": {"prompt": "say: hi"}}},
    ]
    done = subprocess.run(
        [sys.executable, "-m", "clew", *words],
        input="".join(json.dumps({"jsonrpc": "2.0", **call}) + "\n" for call in calls),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0
    answers = {line["id"]: line for line in map(json.loads, done.stdout.splitlines()) if "id" in line}
    assert answers[2]["result"]["structuredContent"]["content"] == "hi"
    shown = subprocess.run(
        [sys.executable, "-m", "clew", "list"], capture_output=True, text=True, timeout=30, check=True
    )
    assert shown.stdout.split("\t")[4:6] == ["named", "mcp"]


@pytest.mark.parametrize(
    ("words", "message"), [(["list"], "is the server itself and has no 'list'"), (["--frob"], "does not know '--frob'")]
)
def test_the_server_has_no_words_of_its_own(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["mcp", *words]) == 2
    assert message in capsys.readouterr().err


def test_a_list_fits_a_narrow_terminal(
    say: Say, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    say("My favourite number is 41, and this is a long first message that does not fit on a line at all.")
    monkeypatch.setattr(terminal, "is_terminal", _is_stdout)
    monkeypatch.setenv("COLUMNS", "60")
    assert main(["list"]) == 0
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["id", "when", "thread"]
    assert len(line) <= 60
    assert line.rstrip().endswith("…")


def _is_stdout(stream: object) -> bool:
    return stream is sys.stdout
