"""`clew exec`: which thread, which settings, which end."""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cli_home import FakeThread, FakeThreads, answer, summary, wait_for_stop

from clew.cli import main
from clew.cli.exec_run import Refuse
from clew.errors import KeyMissing
from clew.events import ApprovalRequest, Decision, TurnError, TurnInput, TurnResult
from clew.settings import ApprovalPolicy, Sandbox
from clew.turn import Turn

Use = Callable[[FakeThreads], FakeThreads]

_BASE = ["exec", "--experimental-json", "--skip-git-repo-check", "-c", "model_provider=offline"]
_ID = "0199a213-0000-7000-8000-000000000001"


@pytest.fixture(autouse=True)
def _stdin(monkeypatch: pytest.MonkeyPatch) -> None:  # pyright: ignore[reportUnusedFunction] - a fixture
    _pipe(monkeypatch, b"")


def _pipe(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def _events(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_run_starts_a_thread_and_tells_its_turn(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    home = use(FakeThreads())
    assert main([*_BASE, "say hi"]) == 0
    assert [event["type"] for event in _events(capsys)] == ["thread.started", "turn.started", "turn.completed"]
    assert home.calls == [("start", "exec", "clew_exec")]
    assert home.inputs == [TurnInput(text="say hi", trigger="exec")]


def test_a_dash_is_standard_input(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    _pipe(monkeypatch, b"from a pipe")
    home = use(FakeThreads())
    assert main([*_BASE, "-"]) == 0
    assert home.inputs[0].text == "from a pipe"


def test_the_caller_names_the_originator(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CODEX_INTERNAL_ORIGINATOR_OVERRIDE", "codex_sdk_ts")
    home = use(FakeThreads())
    assert main([*_BASE, "hi"]) == 0
    assert home.calls == [("start", "exec", "codex_sdk_ts")]


def test_the_options_of_the_sdk_are_taken_in_its_order(
    use: Use, homes: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    (homes / "a.png").touch()
    (homes / "b.png").touch()
    seen: list[Any] = []
    home = FakeThreads(summary(_ID))
    opened = home.open

    async def spy(reference: str, defaults: Any, overrides: Any = None) -> Any:
        seen.append((defaults, overrides))
        return await opened(reference, defaults, overrides)

    monkeypatch.setattr(home, "open", spy)
    use(home)
    _pipe(monkeypatch, b"look")
    words = ["exec", "--experimental-json", "--config", "show_raw_agent_reasoning=false"]
    words += ["--config", 'model_provider="offline"', "--model", "gpt-5", "--thread-source", "user"]
    words += ["--sandbox", "workspace-write", "--cd", str(homes), "--add-dir", "../data", "--add-dir", "/more"]
    words += ["--skip-git-repo-check", "--output-schema", str(tmp_path / "schema.json")]
    words += ["--cyber-access-program", "standard", "--config", 'model_reasoning_effort="low"']
    words += ["--config", "sandbox_workspace_write.network_access=true", "--config", 'web_search="live"']
    words += ["--config", 'approval_policy="never"', "resume", _ID, "--image", "a.png,b.png"]
    assert main(words) == 0
    assert home.inputs == [
        TurnInput(
            text="look",
            local_images=(str(homes / "a.png"), str(homes / "b.png")),
            output_schema={"type": "object"},
            trigger="exec",
        )
    ]
    [(defaults, overrides)] = seen
    for settings in (defaults, overrides):
        assert (settings.cwd, settings.model, settings.provider) == (str(homes), "gpt-5", "offline")
        assert (settings.approval, settings.effort) == ("never", "low")
        assert settings.sandbox.mode == "workspace-write"
        assert settings.sandbox.network_access
        assert settings.sandbox.writable_roots == (str(tmp_path / "data"), "/more")


def test_a_resume_names_only_what_was_said(use: Use, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    home = FakeThreads(summary(_ID, name="parser"))
    opened = home.open

    async def spy(reference: str, defaults: Any, overrides: Any = None) -> Any:
        seen.append({name: value for name in overrides.__struct_fields__ if (value := getattr(overrides, name))})
        return await opened(reference, defaults, overrides)

    monkeypatch.setattr(home, "open", spy)
    use(home)
    common = ["exec", "--json", "--skip-git-repo-check"]
    assert main([*common, "resume", "parser", "go on"]) == 0
    assert main([*common, "-m", "o9", "resume", "parser", "go on"]) == 0
    assert seen == [{}, {"model": "o9"}]


def test_a_profile_is_named_by_the_command_line_but_for_its_rights(
    use: Use, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    codex_home = tmp_path / "codex"
    codex_home.mkdir(exist_ok=True)
    (codex_home / "config.toml").write_text(
        'model_reasoning_effort = "low"\n[profiles.deep]\nmodel = "deep-1"\nsandbox_mode = "danger-full-access"\n'
        'approval_policy = "never"\nsandbox_workspace_write.network_access = true\n'
    )
    seen: list[Any] = []
    home = FakeThreads(summary(_ID))

    async def spy(reference: str, defaults: Any, overrides: Any = None) -> Any:
        seen.append({name: value for name in overrides.__struct_fields__ if (value := getattr(overrides, name))})
        recorded = msgspec.structs.replace(defaults, sandbox=Sandbox(), approval=ApprovalPolicy.ON_REQUEST)
        return FakeThread(home, reference, overrides.over(recorded))

    monkeypatch.setattr(home, "open", spy)
    use(home)
    base = ["exec", "--json", "--skip-git-repo-check", "--codex-home", str(codex_home)]
    words = [*base, "-p", "deep", "resume", _ID, "go on"]
    assert main(words) == 0
    told = [event["item"]["message"] for event in _events(capsys) if event.get("item", {}).get("type") == "error"]
    kept = "which is left out: the thread keeps its recorded"
    assert told == [
        f"the profile deep sets sandbox_mode, {kept} sandbox (read-only). Name one with -s to change it.",
        f"the profile deep sets approval_policy, {kept} approval policy (on-request). Name one with -a to change it.",
    ]
    assert main([*words, "-s", "read-only", "-a", "on-request"]) == 0
    assert len(_events(capsys)) == 3
    assert seen == [
        {"model": "deep-1"},
        {"model": "deep-1", "sandbox": Sandbox(), "approval": ApprovalPolicy.ON_REQUEST},
    ]


def test_sandbox_details_without_a_mode_never_widen_a_recorded_sandbox(
    use: Use, capsys: pytest.CaptureFixture[str]
) -> None:
    use(FakeThreads(summary(_ID)))
    assert main([*_BASE, "-c", "sandbox_workspace_write.network_access=true", "resume", _ID, "go on"]) == 0
    notice = _events(capsys)[1]["item"]
    assert notice["type"] == "error"
    assert notice["message"].startswith("sandbox_workspace_write.network_access left out")


def test_an_unknown_id_is_refused_in_the_words_programs_know(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    use(FakeThreads())
    unknown = "00000000-0000-0000-0000-000000000000"
    assert main([*_BASE, "resume", unknown, "x"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert (
        f"Error: thread/resume: thread/resume failed: no rollout found for thread id {unknown} (code -32600)\n" in err
    )


def test_an_unknown_name_never_starts_a_thread(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    home = use(FakeThreads())
    assert main([*_BASE, "resume", "no-such-name", "x"]) == 1
    assert "Error: no thread is called no-such-name\n" in capsys.readouterr().err
    assert home.inputs == []


def test_last_is_the_newest_thread_of_the_folder(use: Use, homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = summary("mine", cwd=str(homes))
    home = use(FakeThreads(summary("child", cwd=str(homes), parent_id="mine"), mine, summary("other", cwd="/x")))
    assert main([*_BASE, "resume", "--last", "go on"]) == 0
    assert main([*_BASE, "-C", "/x", "resume", "--last", "go on"]) == 0
    assert home.calls == [("open", "mine"), ("open", "other")]
    assert main([*_BASE, "-C", "/nowhere", "resume", "--last", "go on"]) == 1
    assert "Error: there is no thread in /nowhere yet\n" in capsys.readouterr().err
    assert main([*_BASE, "-C", "/nowhere", "resume", "--last", "--all", "go on"]) == 0


def test_a_fork_goes_on_in_the_copy(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    home = use(FakeThreads(summary(_ID)))
    assert main([*_BASE, "fork", _ID, "other way"]) == 0
    assert home.calls == [("fork", _ID, {}), ("open", "forked")]
    assert _events(capsys)[0] == {"type": "thread.started", "thread_id": "forked"}


def test_words_behind_two_dashes_are_a_prompt(use: Use) -> None:
    home = use(FakeThreads())
    assert main([*_BASE, "--", "resume"]) == 0
    assert home.inputs[0].text == "resume"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["resume"], "`exec resume` needs a thread"),
        (["two", "prompts"], "there is more than one prompt: 'two' and 'prompts'"),
        (["resume", "a", "two", "prompts"], "there is more than one prompt"),
        (["--last", "hi"], "--last goes with `resume`"),
        (["review"], "`exec review` does not exist here"),
        (["--worktree", "hi"], "--worktree does not exist here"),
        (["--ephemeral", "resume", "a", "hi"], "--ephemeral goes with a new thread only"),
    ],
)
def test_wrong_words_are_explained(
    words: list[str], message: str, use: Use, capsys: pytest.CaptureFixture[str]
) -> None:
    use(FakeThreads())
    assert main([*_BASE, *words]) == 2
    out, err = capsys.readouterr()
    assert (out, message in err) == ("", True)


def test_a_folder_nobody_vouches_for_is_refused(
    use: Use, homes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use(FakeThreads())
    words = ["exec", "-c", "model_provider=offline", "hi"]
    assert main(words) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Error: Not inside a trusted directory and --skip-git-repo-check was not specified.\n")
    for more in (["--trust"], ["--yolo"]):
        assert main([*words, *more]) == 0
    (tmp_path / "codex" / "config.toml").write_text(f'[projects."{homes}"]\ntrust_level = "trusted"\n')
    assert main(words) == 0
    (tmp_path / "codex" / "config.toml").unlink()
    (homes / ".git").mkdir()
    assert main(words) == 0


def test_configuration_comes_before_the_prompt(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    use(FakeThreads())
    assert main(["exec", "-c", "approval_policy=untrusted"]) == 1
    assert capsys.readouterr().err.startswith(
        'Error: approval_policy = "untrusted" is no longer supported; remove this setting\n'
    )
    assert main(["exec", "--skip-git-repo-check", "-c", "model_provider=nope", "hi"]) == 1
    assert "Error: Model provider `nope` not found\n" in capsys.readouterr().err


def test_nothing_to_ask_is_an_error(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    use(FakeThreads())
    assert main(_BASE) == 1
    out, err = capsys.readouterr()
    assert (out, err) == ("", "Reading prompt from stdin...\nError: No prompt provided via stdin.\n")


def test_a_failed_turn_ends_with_1(use: Use, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    async def fail(turn: Turn) -> TurnResult:
        return TurnResult(
            thread_id="x", turn_id="t", status="failed", error=TurnError("no such model", "http_400", '{"a":1}')
        )

    use(FakeThreads(script=fail))
    assert main([*_BASE, "-o", str(tmp_path / "last"), "hi"]) == 1
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1]) == {"type": "turn.failed", "error": {"message": '{"a":1}'}}
    assert (tmp_path / "last").read_text() == ""
    assert "Warning: no last agent message" in err


def test_a_turn_that_cannot_run_is_an_error(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    async def fail(turn: Turn) -> TurnResult:
        raise KeyMissing("OPENAI_API_KEY", "openai")

    use(FakeThreads(script=fail))
    assert main([*_BASE, "hi"]) == 1
    assert "Error: no API key for the model provider openai" in capsys.readouterr().err


def test_the_last_message_goes_to_a_file(use: Use, tmp_path: Path) -> None:
    use(FakeThreads(script=answer))
    assert main([*_BASE, "-o", str(tmp_path / "last"), "hi"]) == 0
    assert (tmp_path / "last").read_text() == "done"


@pytest.mark.parametrize(
    ("content", "why"), [(None, "cannot be read"), ("{", "is not JSON"), ("[]", "is not a JSON object")]
)
def test_a_wrong_schema_is_explained(
    content: str | None, why: str, use: Use, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    use(FakeThreads())
    if content is not None:
        (tmp_path / "schema").write_text(content)
    assert main([*_BASE, "--output-schema", str(tmp_path / "schema"), "hi"]) == 1
    assert why in capsys.readouterr().err


def test_an_image_that_is_not_there_is_an_error(use: Use, homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    use(FakeThreads())
    assert main([*_BASE, "-i", "no.png", "hi"]) == 1
    assert f"Error: there is no image at {homes}/no.png\n" in capsys.readouterr().err


def test_ctrl_c_interrupts_the_turn_and_ends_with_1(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    async def hit(turn: Turn) -> TurnResult:
        os.kill(os.getpid(), signal.SIGINT)
        return await wait_for_stop(turn)

    use(FakeThreads(script=hit))
    assert main([*_BASE, "hi"]) == 1
    assert [event["type"] for event in _events(capsys)] == ["thread.started", "turn.started"]


def test_an_ephemeral_run_leaves_nothing(use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr("tempfile.tempdir", None)
    use(FakeThreads())
    assert main([*_BASE, "--ephemeral", "hi"]) == 0
    assert list((tmp_path / "tmp").iterdir()) == []
    assert list((tmp_path / "codex").iterdir()) == []


def test_the_configuration_files_can_be_left_out(use: Use, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "codex" / "config.toml").write_text("model = 3\n")
    use(FakeThreads())
    assert main([*_BASE, "hi"]) == 1
    assert "config.toml:1" in capsys.readouterr().err
    assert main([*_BASE, "--ignore-user-config", "hi"]) == 0


@pytest.mark.anyio
async def test_nobody_can_be_asked() -> None:
    request = ApprovalRequest(kind="command", thread_id="a", turn_id="b", call_id="c", cwd="/")
    assert await Refuse().decide(request) is Decision.DENY
