"""The demo is a test of its own; here it is held to what it promises about its surroundings."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clew.cli.demo import DemoFailed, Stage, read_log

_DEMO = [sys.executable, "-m", "clew", "demo"]


def _environment(tmp_path: Path) -> dict[str, str]:
    """The person's own homes must not be touched: they do not exist, and must not be made."""
    return {**os.environ, "HOME": str(tmp_path / "nobody"), "TMPDIR": str(tmp_path), "NO_COLOR": "1"}


def _demo(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*_DEMO, *words], env=_environment(tmp_path), capture_output=True, text=True, timeout=50, check=False
    )


def test_a_thread_survives_a_kill(tmp_path: Path) -> None:
    done = _demo(tmp_path, "--json", "--keep")
    assert (done.returncode, done.stderr) == (0, "")
    facts = json.loads(done.stdout)
    assert [step["open_calls"] for step in facts["steps"]] == [0, 0, 1, 1]
    assert facts["steps"][3]["lines"] > facts["steps"][2]["lines"]
    assert "41" in facts["answer"]
    assert facts["seconds"] < 20
    [folder] = tmp_path.iterdir()
    assert facts["folder"] == str(folder.resolve())
    assert Path(facts["rollout"]).is_file()
    shutil.rmtree(folder)


def test_the_story_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    done = _demo(tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    for words in ("My favourite number is 41.", "kill -9", "the last call is open: exec_command", "claude mcp add"):
        assert words in done.stdout
    assert "\x1b" not in done.stdout
    assert not any(line.endswith(" ") for line in done.stdout.splitlines())
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_demo_leaves_nothing(tmp_path: Path) -> None:
    running = subprocess.Popen(
        _DEMO, env=_environment(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert running.stdout is not None
    for line in running.stdout:
        if "favourite number" in line:
            break
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=20)
    assert (running.returncode, err) == (130, "")
    assert list(tmp_path.iterdir()) == []


def test_a_claim_that_does_not_hold_is_an_error_with_the_servers_words(tmp_path: Path) -> None:
    stage = Stage(tmp_path, tell=False)
    with pytest.raises(DemoFailed, match="the demo expected that pigs fly") as caught:
        stage.check(False, "pigs fly")
    assert "clew doctor" in caught.value.hint
    (tmp_path / "server.log").write_text("boom\n")
    assert stage.log_hint() == "The server said:\n  boom"


def test_a_command_that_is_not_ours_is_not_ended(tmp_path: Path) -> None:
    stage = Stage(tmp_path, tell=False)
    other = subprocess.Popen(["sleep", "30"], start_new_session=True)
    ours = subprocess.Popen(["sh", "-c", "sleep 30; : count.txt"], start_new_session=True)
    for process in (other, ours):
        (stage.project / "command.pid").write_text(str(process.pid))
        # The new process is a copy of this one until it has become its command.
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline and process is ours and ours.poll() is None:
            stage.sweep()
        stage.sweep()
    assert ours.wait(5) == -signal.SIGKILL
    assert other.poll() is None
    other.kill()
    other.wait(5)


def test_open_calls_are_found_in_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    lines = [
        {"type": "function_call", "call_id": "a", "name": "exec_command"},
        {"type": "custom_tool_call", "call_id": "b", "name": "apply_patch"},
        {"type": "function_call_output", "call_id": "a"},
        {"type": "message"},
    ]
    log.write_text(
        "".join(json.dumps({"timestamp": "", "type": "response_item", "payload": line}) + "\n" for line in lines)
        + '{"type":"event_msg","payload":{}}\nnot json\n'
    )
    assert read_log(log) == (6, ["apply_patch"])
