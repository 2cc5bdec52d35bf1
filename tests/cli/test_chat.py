"""Conversations with the offline model, line by line: what a person types, what is shown, what is recorded."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from clew.cli.chat import Chat
from clew.cli.chat_input import Interrupted
from clew.cli.chat_view import ChatView
from clew.cli.opening import default_settings, open_home
from clew.cli.options import Globals
from clew.config import Config, load
from clew.events import ApprovalRequest, Decision, TurnInput
from clew.rollout import Home, RealFileSystem
from clew.settings import Overrides, Sandbox, SandboxMode
from clew.store.queries import ListQuery
from clew.testing.builders import ThreadBuilder
from clew.threads import Thread, Threads

pytestmark = pytest.mark.anyio


@dataclass
class Script:
    """A person: types `lines`, one after the other (`^C` is Ctrl-C), and answers every question with the next key."""

    lines: list[str]
    keys: list[str] = field(default_factory=list[str])
    can_ask: bool = True
    asked: list[Mapping[str, str]] = field(default_factory=list[Mapping[str, str]])

    async def line(self) -> str | None:
        line = self.lines.pop(0) if self.lines else None
        if line == "^C":
            raise Interrupted
        return line

    async def key(self, question: str, answers: Mapping[str, str]) -> str | None:
        self.asked.append(answers)
        key = self.keys.pop(0) if self.keys else None
        if key == "^C":
            raise Interrupted
        return key


class House:
    def __init__(self, threads: Threads, config: Config) -> None:
        self.threads = threads
        self.code = 0
        self.settings = default_settings(config, Globals())

    async def start(self, mode: SandboxMode = SandboxMode.WORKSPACE_WRITE) -> Thread:
        settings = replace(self.settings, sandbox=Sandbox(mode=mode))
        return await self.threads.start(settings, source="cli", originator="test")

    async def talk(self, thread: Thread, *lines: str, keys: Sequence[str] = (), can_ask: bool = True) -> Script:
        script = Script(list(lines), list(keys), can_ask)
        self.code, _ = await Chat(self.threads, thread, script, ChatView()).run()
        return script

    async def turns(self, reference: str) -> list[tuple[str, list[str]]]:
        page = await self.threads.read(reference)
        return [(turn.status, [str(item["type"]) for item in turn.items]) for turn in page.turns]


def git(folder: Path, *words: str) -> None:
    who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True)


@asynccontextmanager
async def house() -> AsyncGenerator[House]:
    config = load(os.environ, overrides=["model_provider=offline"])
    with anyio.fail_after(20):
        async with open_home(config, "clew chat") as threads:
            yield House(threads, config)


async def test_messages_are_turns_and_slash_commands_are_not(homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with house() as one:
        thread = await one.start()
        await one.talk(
            thread,
            "my favourite number is 41",
            "",
            "/nope",
            "//help is text",
            "what is my favourite number?",
            "/quit",
            "x",
        )
        out, err = capsys.readouterr()
        assert out.splitlines()[0] == "Noted: your favourite number is 41."
        assert out.splitlines()[-1] == "Your favourite number is 41."
        assert "Error: there is no /nope\n/help lists the commands; begin with // to send it.\n" in err
        assert one.code == 0
        page = await one.threads.read(thread.id)
        said = [turn.items[0]["content"][0]["text"] for turn in page.turns]
        assert said == ["my favourite number is 41", "/help is text", "what is my favourite number?"]
        summary = await one.threads.summary(thread.id)
        assert (summary.source, summary.turns or 3) == ("cli", 3)


async def test_a_thread_that_goes_on_shows_the_last_of_it_and_keeps_its_rights(
    homes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with house() as one:
        thread = await one.start(SandboxMode.READ_ONLY)
        await one.talk(thread, "my favourite number is 41", "/name numbers")
        capsys.readouterr()
        again = await one.threads.open("numbers", one.settings, Overrides())
        await one.talk(again, "what is my favourite number?")
        out, err = capsys.readouterr()
        assert out == "Your favourite number is 41.\n"
        assert err.splitlines()[:5] == [
            "numbers  offline · ~/project · read-only",
            thread.id,
            "",
            "> my favourite number is 41",
            "• Noted: your favourite number is 41.",
        ]


async def test_commands_and_changes_are_shown_as_they_happen(homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with house() as one:
        thread = await one.start(SandboxMode.FULL_ACCESS)
        await one.talk(thread, "run: printf 'a\\nb\\n'; exit 3", "write notes.txt: one line")
        err = capsys.readouterr().err
        assert "$ printf 'a\\nb\\n'; exit 3\n  a\n  b\n  exit code 3\n" in err
        assert f"add {homes}/notes.txt\n  +one line\n" in err
        assert (homes / "notes.txt").read_text() == "one line\n"


@pytest.mark.parametrize(
    ("key", "ran", "status"),
    [
        ("y", True, "completed"),
        ("a", True, "completed"),
        ("n", False, "completed"),
        ("q", False, "interrupted"),
        ("^C", False, "interrupted"),
        ("", False, "completed"),
    ],
)
async def test_a_question_is_answered_with_a_key(
    key: str, ran: bool, status: str, homes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with house() as one:
        thread = await one.start()
        proof = homes / "proof"
        script = await one.talk(thread, f"run with full access: touch {proof}", keys=[key] if key else [])
        assert len(script.asked) == 1
        assert proof.exists() == ran
        err = capsys.readouterr().err
        question = f"Outside of the sandbox:\nRun `touch {proof}` with full access?\n$ touch {proof}\nin {homes}\n"
        assert question in err
        assert (await one.turns(thread.id))[-1][0] == status


async def test_an_answer_for_the_session_is_remembered(homes: Path) -> None:
    async with house() as one:
        thread = await one.start()
        command = f"run with full access: touch {homes / 'proof'}"
        script = await one.talk(thread, command, command, command, keys=["y", "a"])
        assert len(script.asked) == 2


async def test_nobody_is_asked_through_a_pipe(homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with house() as one:
        thread = await one.start()
        script = await one.talk(thread, f"run with full access: touch {homes / 'proof'}", "y", can_ask=False)
        assert (script.asked, (homes / "proof").exists()) == ([], False)
        assert "Nobody can be asked here.\n  refused\n" in capsys.readouterr().err


async def test_the_conversation_goes_on_in_a_fork(homes: Path) -> None:
    async with house() as one:
        thread = await one.start()
        await one.talk(thread, "my favourite number is 41", "/fork", "how many turns?", "/name the fork")
        assert len(await one.turns(thread.id)) == 1
        assert len(await one.turns("the fork")) == 2
        assert (await one.threads.summary("the fork")).forked_from == thread.id


async def test_compacting_is_a_turn_and_the_thread_goes_on(homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with house() as one:
        thread = await one.start()
        await one.talk(thread, "/compact", "my favourite number is 41", "/compact", "what is my favourite number?")
        out, err = capsys.readouterr()
        assert "thread: there is nothing to sum up yet" in err
        assert "≡ the context was summed up here\n" in err
        assert out.splitlines()[-1] == "Your favourite number is 41."
        kinds = await one.turns(thread.id)
        assert kinds[1] == ("completed", ["contextCompaction"])


async def test_status_tells_what_this_thread_is(homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with house() as one:
        thread = await one.start()
        await one.talk(thread, "/status")
        before = capsys.readouterr().err
        assert "file      none before the first message\n" in before
        await one.talk(thread, "hi", "/name parser", "/status")
        lines = capsys.readouterr().err.splitlines()
        facts = {line[:8].strip(): line[10:] for line in lines if line[8:10] == "  "}
        path = (await one.threads.summary(thread.id)).path
        assert facts["thread"] == thread.id
        assert facts["name"] == "parser"
        assert facts["file"].startswith(path)
        assert facts["model"] == "offline (offline)"
        assert facts["folder"] == str(homes)
        assert facts["sandbox"] == "workspace-write (cwd)"
        assert facts["approval"] == "on-request"
        assert facts["context"].endswith("%)")


async def test_diff_shows_what_git_knows_and_what_it_does_not(homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with house() as one:
        thread = await one.start()
        await one.talk(thread, "/diff")
        assert f"{homes} is not in a git repository.\n" in capsys.readouterr().err
        git(homes, "init", "-q")
        await one.talk(thread, "/diff")
        assert "Nothing changed since the last commit.\n" in capsys.readouterr().err
        (homes / "known.txt").write_text("old\n")
        (homes / ".gitignore").write_text("ignored\n")
        git(homes, "add", ".")
        git(homes, "commit", "-qm", "begin")
        (homes / "known.txt").write_text("new\n")
        (homes / "fresh file.txt").write_text("hello\n")
        (homes / "ignored").write_text("x\n")
        await one.talk(thread, "/diff")
        err = capsys.readouterr().err
        lines = [line for line in err.splitlines() if line.startswith(("+", "-")) and line[:3] not in ("+++", "---")]
        assert lines == ["-old", "+new", "+hello"]


async def test_a_repository_cannot_make_diff_run_programs(homes: Path) -> None:
    proof = homes.parent / "proof"
    git(homes, "init", "-q")
    for key in ("diff.external", "core.fsmonitor", "diff.evil.textconv"):
        git(homes, "config", key, f"touch {proof} #")
    (homes / ".gitattributes").write_text("* diff=evil\n")
    (homes / "a.txt").write_text("a\n")
    async with house() as one:
        await one.talk(await one.start(), "/diff")
    assert not proof.exists()


async def test_what_cannot_run_is_told_and_the_conversation_goes_on(
    homes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with house() as one:
        thread = await one.start()
        await one.talk(thread, "hi")
        away = homes.parent / "away"
        os.chdir(homes.parent)
        homes.rename(away)
        await one.talk(thread, "hello")
        assert "Error: the working directory of thread" in capsys.readouterr().err
        assert one.code == 1
        away.rename(homes)
        await one.talk(thread, "hello")
        assert one.code == 0


async def test_what_another_program_added_is_known_to_the_next_turn(
    homes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with house() as one, house() as other:
        thread = await one.start()

        async def elsewhere() -> None:
            theirs = await other.threads.open(thread.id, other.settings)
            await theirs.run(TurnInput(text="my favourite number is 41"), approver=_Nobody()).wait()

        class Interlude(Script):
            async def line(self) -> str | None:
                if len(self.lines) == 1:
                    await elsewhere()
                return await super().line()

        script = Interlude(["hi", "what is my favourite number?"])
        await Chat(one.threads, thread, script, ChatView()).run()
        assert capsys.readouterr().out.splitlines()[-1] == "Your favourite number is 41."


class _Nobody:
    async def decide(self, request: ApprovalRequest) -> Decision:
        raise AssertionError("nothing is asked here")


async def test_ctrl_c_at_the_prompt_twice_leaves_once_does_not(homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with house() as one:
        thread = await one.start()
        script = await one.talk(thread, "^C", "hi", "^C", "^C", "never said")
        assert script.lines == ["never said"]
        assert capsys.readouterr().err.count("Ctrl-C again, or Ctrl-D, leaves.\n") == 2
        assert len(await one.turns(thread.id)) == 1


async def test_what_a_thread_says_does_not_steer_the_terminal(homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    builder = ThreadBuilder("0.169", cwd=str(homes)).turn("\x1b[2Jboo\x07", "\x1b]0;title\x07answer\x1b[31m")
    builder.write(Home(RealFileSystem(), homes.parent / "codex"))
    async with house() as one:
        thread = await one.threads.open(builder.id, one.settings)
        await one.talk(thread, "/status")
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert "> boo" in err


async def test_a_new_thread_that_nothing_was_said_in_leaves_nothing(homes: Path) -> None:
    async with house() as one:
        await one.talk(await one.start(), "/help", "/fork", "/name x", "/save y", "/quit")
        assert (await one.threads.list(ListQuery(archived=None))).threads == ()
