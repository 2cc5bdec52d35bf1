"""`clew resume` and `clew chat` as a person meets them: the real program at a real terminal, and in a pipe."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from clew.rollout import Home, RealFileSystem
from clew.testing.builders import BEGINNING, ThreadBuilder
from drivers.screen import ALT_ENTER, CTRL_C, CTRL_D, DOWN, ENTER, ESCAPE, TAB, Screen


@pytest.fixture
def env(homes: Path) -> dict[str, str]:
    """The environment of a program in these homes, with the offline model."""
    config = 'model_provider = "offline"\nsandbox_mode = "danger-full-access"\n'
    (homes.parent / "codex" / "config.toml").write_text(config)
    names = ("HOME", "CODEX_HOME", "CLEW_HOME", "PATH")
    return {name: os.environ[name] for name in names}


def write(homes: Path, *, prompt: str, cwd: Path | None = None, number: int = 0, archived: bool = False) -> str:
    """A recorded thread of the offline model."""
    builder = ThreadBuilder(
        "0.169", cwd=str(cwd or homes), start=BEGINNING + number * 60, seed=number, model="offline", provider="offline"
    )
    builder.turn(prompt, f"About {prompt}.").write(Home(RealFileSystem(), homes.parent / "codex"), archived=archived)
    return builder.id


def turns(homes: Path, env: Mapping[str, str], reference: str = "last") -> list[tuple[str, str]]:
    """The prompts of a thread with how their turns ended."""
    run = clew(homes, env, "show", reference, "--json")
    return [
        (turn["items"][0]["content"][0]["text"], turn["status"])
        for turn in json.loads(run.stdout)["turns"]
        if turn["items"] and turn["items"][0]["type"] == "userMessage"
    ]


def clew(
    homes: Path, env: Mapping[str, str], *words: str, typed: str = "", code: int = 0
) -> subprocess.CompletedProcess[str]:
    paths = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
    command = [sys.executable, "-m", "clew", *words]
    run = subprocess.run(
        command, input=typed, env={**paths, **env}, cwd=homes, capture_output=True, text=True, check=False
    )
    assert run.returncode == code, run.stderr
    return run


def test_a_thread_is_picked_and_goes_on(homes: Path, env: Mapping[str, str]) -> None:
    other = homes.parent / "other"
    other.mkdir()
    for number, prompt in enumerate(["alpha", "日本語", "gamma"]):
        write(homes, prompt=prompt, number=number)
    far = write(homes, prompt="delta", cwd=other, number=9)
    with Screen("resume", env=env, cwd=homes) as screen:
        screen.expect("threads of this folder")
        screen.expect("• About gamma.")
        screen.expect("• About 日本語.", send=(DOWN,))
        screen.expect("delta", send=(TAB,))
        screen.expect("1 of 4", send=("del",))
        screen.expect(far, send=(ENTER,))
        screen.expect("> delta")
        screen.expect("Noted: your favourite number is 41.", send=("my favourite number is 41", ENTER))
        screen.send("/quit", ENTER)
        assert screen.end() == 0
        assert screen.now == screen.before
    assert turns(homes, env, far) == [("delta", "completed"), ("my favourite number is 41", "completed")]


@pytest.mark.parametrize("keys", [(ESCAPE,), (CTRL_C,), (CTRL_D,)])
def test_leaving_the_list_gives_the_terminal_back(keys: tuple[str, ...], homes: Path, env: Mapping[str, str]) -> None:
    write(homes, prompt="alpha")
    with Screen("resume", env=env, cwd=homes, columns=40, rows=8) as screen:
        screen.expect("alpha")
        assert screen.now != screen.before
        screen.send(*keys, ESCAPE, "x", ENTER)
        assert screen.end() == 0
        assert screen.now == screen.before
        assert screen.raw.count(b"\x1b[?1049h") == screen.raw.count(b"\x1b[?1049l") == 1


@pytest.mark.parametrize("where", ["list", "prompt", "turn"])
def test_a_terminated_program_gives_the_terminal_back(where: str, homes: Path, env: Mapping[str, str]) -> None:
    write(homes, prompt="alpha")
    with Screen("resume", *(["last"] if where != "list" else []), env=env, cwd=homes) as screen:
        screen.expect("• About alpha.")
        if where == "turn":
            screen.expect("$ sleep 60", send=("run: sleep 60", ENTER))
        screen.stop(signal.SIGTERM)
        assert screen.end() == -signal.SIGTERM
        assert screen.now == screen.before
    if where == "turn":
        assert turns(homes, env) == [("alpha", "completed"), ("run: sleep 60", "interrupted")]


def test_the_list_follows_the_size_of_the_terminal(homes: Path, env: Mapping[str, str]) -> None:
    for number in range(30):
        write(homes, prompt=f"thread {number}", number=number)
    with Screen("resume", env=env, cwd=homes, rows=10) as screen:
        screen.expect("thread 23")
        assert "thread 10" not in screen.said
        screen.resize(60, 40)
        screen.stop(signal.SIGWINCH)
        screen.expect("thread 10")
        screen.send(ESCAPE)
        assert screen.end() == 0


def test_ctrl_c_stops_the_turn_and_the_conversation_goes_on(homes: Path, env: Mapping[str, str]) -> None:
    with Screen("chat", env=env, cwd=homes) as screen:
        screen.expect("a new thread")
        screen.expect("$ sleep 60", send=("run: sleep 60", ENTER))
        screen.expect("Interrupted.", send=(CTRL_C,))
        screen.prompt()
        screen.expect("hello to you", send=("say: hello to you", ENTER))
        screen.expect("hello to you")
        screen.prompt()
        screen.expect("Ctrl-C again, or Ctrl-D, leaves.", send=(CTRL_C,))
        screen.prompt()
        screen.send(CTRL_C)
        assert screen.end() == 0
        assert screen.now == screen.before
    assert turns(homes, env) == [("run: sleep 60", "interrupted"), ("say: hello to you", "completed")]


def test_lines_that_belong_together_are_one_message(homes: Path, env: Mapping[str, str]) -> None:
    with Screen("chat", env=env, cwd=homes) as screen:
        screen.prompt()
        pasted = "\x1b[200~say: one\nand two\x1b[201~"
        screen.send(pasted, ALT_ENTER, "three", ENTER)
        screen.expect("one\r\nand two\r\nthree\r\n")
        screen.prompt()
        screen.send(CTRL_D)
        assert screen.end() == 0
    assert turns(homes, env) == [("say: one\nand two\nthree", "completed")]


def test_a_question_is_answered_with_one_key(homes: Path, env: Mapping[str, str]) -> None:
    with Screen("chat", "-s", "workspace-write", "-a", "untrusted", env=env, cwd=homes) as screen:
        screen.expect("a new thread")
        asked = screen.expect("and stop", send=("run: touch proof", ENTER))
        assert f"in {homes}" in asked.replace("\r\n", "")
        screen.prompt()
        screen.send("x", ENTER, "\x1b[200~y\x1b[201~")
        screen.expect("refused", send=("n",))
        screen.expect("and stop", send=("run: touch proof", ENTER))
        screen.prompt()
        screen.expect("allowed once", send=("y",))
        screen.expect("ended with exit code")
        screen.prompt()
        screen.send(CTRL_D)
        assert screen.end() == 0
    assert (homes / "proof").exists()


def test_what_was_typed_before_a_question_is_no_answer_to_it(homes: Path, env: Mapping[str, str]) -> None:
    gate = homes / "gate"
    os.mkfifo(gate)
    with Screen("chat", "-s", "workspace-write", "-a", "untrusted", env=env, cwd=homes) as screen:
        screen.prompt()
        screen.send("\x1b[200~run: cat gate\nrun: touch proof\x1b[201~", ENTER)
        screen.expect("and stop")
        screen.prompt()
        screen.expect("allowed once", send=("y",))
        screen.send("yes, yes")
        gate.write_text("")
        screen.expect("and stop")
        screen.prompt()
        screen.expect("refused", send=("n",))
        screen.prompt()
        screen.send(CTRL_D)
        assert screen.end() == 0
    assert not (homes / "proof").exists()


def test_a_pipe_is_a_message_a_line(homes: Path, env: Mapping[str, str]) -> None:
    known = write(homes, prompt="alpha")
    typed = "my favourite number is 41\r\n\nwhat is my favourite number?\n/quit\nnever said\n"
    run = clew(homes, env, "resume", "last", typed=typed)
    assert run.stdout == "Noted: your favourite number is 41.\nYour favourite number is 41.\n"
    assert turns(homes, env, known)[1:] == [
        ("my favourite number is 41", "completed"),
        ("what is my favourite number?", "completed"),
    ]


def test_a_file_is_read_to_its_end(homes: Path, env: Mapping[str, str], tmp_path: Path) -> None:
    (tmp_path / "typed").write_text("say: one\nsay: two")
    with (tmp_path / "typed").open() as typed:
        paths = {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}
        run = subprocess.run(
            [sys.executable, "-m", "clew", "chat", "say: zero"],
            stdin=typed,
            env={**paths, **env},
            cwd=homes,
            capture_output=True,
            text=True,
            check=True,
        )
    assert run.stdout == "zero\none\ntwo\n"


def test_without_a_terminal_the_list_is_numbered(homes: Path, env: Mapping[str, str]) -> None:
    ids = [write(homes, prompt=prompt, number=number) for number, prompt in enumerate(["alpha", "beta"])]
    listed: dict[str, Any] = json.loads(clew(homes, env, "resume", "--json").stdout)
    assert [thread["id"] for thread in listed["threads"]] == ids[::-1]
    run = clew(homes, env, "resume", typed="2\nsay: here\n")
    rows = [line.split("\t") for line in run.stdout.splitlines()]
    assert [(row[0], row[1], row[3]) for row in rows[:2]] == [("1", ids[1], "beta"), ("2", ids[0], "alpha")]
    assert rows[2:] == [["here"]]
    assert turns(homes, env, ids[0])[-1] == ("say: here", "completed")


@pytest.mark.parametrize(("typed", "said"), [("", "which thread?"), ("2\n", "'2' is no number from 1 to 1")])
def test_a_choice_that_is_none_is_refused(typed: str, said: str, homes: Path, env: Mapping[str, str]) -> None:
    write(homes, prompt="alpha")
    assert said in clew(homes, env, "resume", typed=typed, code=2).stderr


def test_the_newest_thread_of_the_folder_goes_on_or_of_any(homes: Path, env: Mapping[str, str]) -> None:
    other = homes.parent / "other"
    other.mkdir()
    near, far = write(homes, prompt="alpha"), write(homes, prompt="beta", cwd=other, number=5)
    clew(homes, env, "resume", "--last", "say: near")
    clew(homes, env, "resume", far, "say: far")
    assert [turns(homes, env, thread)[-1][0] for thread in (near, far)] == ["say: near", "say: far"]
    clew(homes, env, "resume", "--last", "--all", "say: farther")
    assert turns(homes, env, far)[-1][0] == "say: farther"


def test_a_fork_goes_on_and_its_source_stays(homes: Path, env: Mapping[str, str]) -> None:
    source = write(homes, prompt="alpha")
    clew(homes, env, "resume", "--fork", source, "say: beta")
    assert turns(homes, env, source) == [("alpha", "completed")]
    assert turns(homes, env, "last") == [("alpha", "completed"), ("say: beta", "completed")]


def test_an_archived_thread_that_is_picked_comes_back(homes: Path, env: Mapping[str, str]) -> None:
    known = write(homes, prompt="alpha", archived=True)
    assert f"thread {known} is archived" in clew(homes, env, "resume", known, code=1).stderr
    run = clew(homes, env, "resume", "--archived", typed="1\nsay: again\n")
    assert "it is listed again now" in run.stderr
    assert turns(homes, env, known)[-1] == ("say: again", "completed")


def test_a_recorded_sandbox_is_kept_and_widening_is_told(homes: Path, env: Mapping[str, str]) -> None:
    config = homes.parent / "codex" / "config.toml"
    config.write_text('model_provider = "offline"\nsandbox_mode = "read-only"\n')
    clew(homes, env, "chat", "hi")
    config.write_text('model_provider = "offline"\nsandbox_mode = "danger-full-access"\n')
    kept = clew(homes, env, "resume", "last", typed="/status\nhello\n")
    assert "sandbox   read-only\n" in kept.stderr
    assert "widened" not in kept.stderr
    asked = clew(homes, env, "resume", "last", "-s", "workspace-write", typed="hello\n")
    assert "The sandbox was widened from read-only to workspace-write, as this call asked." in asked.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("resume", "a", "b", "c"), "there is more than one message: 'b' and 'c'"),
        (("resume", "last", "--json"), "--json prints what there is to choose from"),
        (("resume",), "there is no thread to go on with"),
    ],
)
def test_wrong_calls_say_what_to_write(words: tuple[str, ...], said: str, homes: Path, env: Mapping[str, str]) -> None:
    assert said in clew(homes, env, *words, code=1 if words == ("resume",) else 2).stderr
