"""`clew doctor`: what it finds, what it says to do, and what it never shows."""

from __future__ import annotations

import io
import json
import os
import socket
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from config_homes import Homes
from rich.console import Console

from clew.cli import checks, registration
from clew.cli.checks import Check
from clew.cli.doctor import doctor_report, render_doctor
from clew.cli.options import Globals
from clew.config import load
from clew.errors import Owner
from clew.rollout import Home, RealFileSystem, WriterLock

THREAD = "019a0000-0000-7000-8000-000000000001"


def statuses(report: dict[str, Any]) -> dict[str, list[str]]:
    out: dict[str, list[str]] = {}
    for check in report["checks"]:
        out.setdefault(check["name"], []).append(check["status"])
    return out


def messages(report: dict[str, Any], name: str) -> list[str]:
    return [check["message"] for check in report["checks"] if check["name"] == name]


def rendered(report: dict[str, Any]) -> str:
    stream = io.StringIO()
    render_doctor(report, Console(file=stream, width=200, highlight=False, markup=False, emoji=False))
    return stream.getvalue()


@pytest.fixture
def env(homes: Homes) -> dict[str, str]:
    return homes.env | {"PATH": os.environ["PATH"]}


def test_a_working_home_is_told_to_be_well(homes: Homes, env: dict[str, str]) -> None:
    path = homes.codex_file('model_provider = "offline"\n')
    day = homes.codex / "sessions" / "2026" / "07" / "01"
    day.mkdir(parents=True)
    meta = {"timestamp": "2026-07-01T12:00:00.000Z", "type": "session_meta", "payload": {"id": THREAD}}
    (day / f"rollout-2026-07-01T12-00-00-{THREAD}.jsonl").write_text(json.dumps(meta) + "\n")
    report = doctor_report(env)
    assert report["ok"] is True
    assert report["homes"] == {"codex": str(homes.codex), "clew": str(homes.clew)}
    assert report["threads"] == {"active": 1, "archived": 0, "held": [], "left": []}
    assert (report["provider"], report["model"]) == ("offline", "offline")
    assert messages(report, "Configuration") == [f"read from {path}"]
    assert messages(report, "Model provider") == ["Offline: needs no network and no key"]
    assert "problem" not in [status for group in statuses(report).values() for status in group]
    text = rendered(report)
    assert "claude mcp add codex -- " in text
    assert "1 found, and 0 archived" in text
    json.dumps(report)


def test_every_wrong_line_is_listed_with_its_place(homes: Homes, env: dict[str, str]) -> None:
    codex = homes.codex_file('model_provider = "offline"\nsandbox_mode = "open"\n')
    clew = homes.clew_file("[clew]\nbusy_wait_seconds = no\n")
    report = doctor_report(env)
    assert report["ok"] is False
    allowed = "`read-only`, `workspace-write`, `danger-full-access`"
    assert messages(report, "Configuration") == [
        f"{clew}:2: Invalid value (column 21)",
        f"{codex}:2: unknown variant `open`, expected one of {allowed} in `sandbox_mode`",
    ]
    assert rendered(report).rstrip().splitlines()[-1].startswith("2 problems")


def test_a_missing_key_is_a_problem_with_a_way_out(env: dict[str, str]) -> None:
    report = doctor_report(env)
    assert report["ok"] is False
    assert report["keys"] == [{"provider": "openai", "variable": "OPENAI_API_KEY", "present": False}]
    (check,) = [check for check in report["checks"] if check["name"] == "Model provider"]
    assert check["status"] == "problem"
    assert "OPENAI_API_KEY is not set" in check["message"]
    assert "-c model_provider=offline" in check["hint"]


def test_keys_are_never_shown(homes: Homes, env: dict[str, str]) -> None:
    homes.codex_file(
        '[model_providers.x]\nbase_url = "https://u:s3cret@h/v1"\nenv_key = "X_KEY"\nhttp_headers = { A = "s3cret" }\n'
    )
    env |= {"OPENAI_API_KEY": "s3cret", "X_KEY": "s3cret"}
    report = doctor_report(env, Globals(config=("model_provider=x",)))
    assert {"provider": "x", "variable": "X_KEY", "present": True} in report["keys"]
    assert messages(report, "Model provider") == ["x at https://h/v1, with a key; `--online` sees whether it answers"]
    assert "s3cret" not in json.dumps(report) + rendered(report)


def test_an_unknown_provider_is_a_problem(env: dict[str, str]) -> None:
    report = doctor_report(env, Globals(config=("model_provider=nope",)))
    assert messages(report, "Model provider") == ["Model provider `nope` not found"]


def test_online_connects_and_tells_what_came_of_it(homes: Homes, env: dict[str, str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        homes.codex_file(f'model_provider = "x"\n[model_providers.x]\nbase_url = "http://127.0.0.1:{port}/v1"\n')
        assert messages(doctor_report(env, online=True), "Model provider") == [
            f"x at http://127.0.0.1:{port}/v1, without a key; 127.0.0.1:{port} answers"
        ]
        proxied = env | {"http_proxy": f"http://127.0.0.1:{port}"}
        config = load(homes.env, overrides=["model_providers.x.base_url=http://nowhere.invalid/v1"])
        (check,) = checks.check_provider(config, online=True, env=proxied)
        assert check.message.endswith(f"the proxy 127.0.0.1:{port} answers")
    (check,) = checks.check_provider(load(homes.env), online=True, env=proxied | {"NO_PROXY": "127.0.0.1"})
    assert check.status == "problem"
    assert check.message.startswith("127.0.0.1 does not answer: ")


def test_homes_in_synced_folders_and_open_login_files_are_warned_about(tmp_path: Path) -> None:
    home = tmp_path / "Dropbox (Me)" / ".codex"
    assert home.parts[-2] == "Dropbox (Me)"
    home.mkdir(parents=True)
    (home / "auth.json").write_text("{}")
    (home / "auth.json").chmod(0o644)
    found = checks.check_home("Codex home", home)
    assert [check.status for check in found] == ["ok", "warning", "warning"]
    assert "Dropbox (Me) keeps in step" in found[1].message
    assert found[2] == Check(
        "Codex home", "warning", f"others may read {home / 'auth.json'}", f"chmod 600 {home / 'auth.json'}"
    )
    (tmp_path / ".stfolder").mkdir()
    (tmp_path / "box").mkdir()
    assert "Syncthing" in checks.check_home("x", tmp_path / "box" / ".codex")[1].message


def test_a_home_that_is_a_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("")
    (check,) = checks.check_home("x", tmp_path / "home")
    assert (check.status, check.message) == ("problem", f"{tmp_path / 'home'} is not a folder")
    assert checks.check_home("x", tmp_path / "gone")[0].message.endswith("made when it is first needed")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_that_cannot_be_written_is_a_problem(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    (check,) = checks.check_home("x", tmp_path)
    tmp_path.chmod(0o700)
    assert check.status == "problem"


def test_a_held_thread_names_its_holder(homes: Homes) -> None:
    home = Home(RealFileSystem(), homes.codex)
    lock = WriterLock.acquire(home, homes.clew, THREAD, Owner("clew mcp", os.getpid(), "tower", "then", "T"))
    (home.lock_folder / "odd.lock").touch()
    threads = checks.count_threads(homes.codex, homes.clew)
    owner = f"clew mcp (pid {os.getpid()} on tower) since then, at work on turn T"
    assert (threads["held"], threads["left"]) == ([{"thread_id": THREAD, "owner": owner}], [])
    assert [check.message for check in checks.check_threads(threads)] == [
        "0 found, and 0 archived; 1 held",
        f"{THREAD} is being written by {owner}",
    ]
    lock.release()
    assert checks.count_threads(homes.codex, homes.clew)["held"] == []


def test_locks_that_a_killed_program_left_are_counted(homes: Homes) -> None:
    folder = homes.codex / "thread-writer-locks"
    folder.mkdir()
    (folder / f"{THREAD}.lock").touch()
    threads = checks.count_threads(homes.codex, homes.clew)
    assert (threads["held"], threads["left"]) == ([], [THREAD])
    _, check = checks.check_threads(threads)
    assert (check.status, check.message, check.hint) == (
        "ok",
        "a killed program left the locks of 1 thread; they hold nobody up",
        "To remove them: clew unlock --all",
    )
    assert (folder / f"{THREAD}.lock").exists()


def test_full_access_is_warned_about(homes: Homes, env: dict[str, str]) -> None:
    config = load(homes.env, overrides=["sandbox_mode=danger-full-access"])
    found, (check,) = checks.check_sandbox(config, env)
    assert found["mode"] == "danger-full-access"
    assert check.status == "warning"


def test_missing_programs_say_what_they_are_good_for() -> None:
    found = checks.programs({"PATH": "/nowhere"})
    assert found == {"git": None, "rg": None, "codex": None}
    assert [check.status for check in checks.check_programs(found)] == ["warning", "warning"]
    assert checks.versions({"PATH": "/nowhere"})["codex"] is None


def test_snippets_can_be_pasted(tmp_path: Path) -> None:
    command = ('/opt/my tools/"clew"',)
    claude, codex, vscode, cursor = registration.snippets(command, ("mcp", "--codex-home", "/h"))
    assert claude["text"] == """claude mcp add codex -- '/opt/my tools/"clew"' mcp --codex-home /h"""
    assert tomllib.loads(codex["text"])["mcp_servers"]["clew"] == {
        "command": command[0],
        "args": ["mcp", "--codex-home", "/h"],
        "tool_timeout_sec": 3600,
    }
    entry = {"command": command[0], "args": ["mcp", "--codex-home", "/h"]}
    assert json.loads(vscode["text"]) == {"servers": {"codex": {"type": "stdio", **entry}}}
    assert json.loads(cursor["text"]) == {"mcpServers": {"codex": entry}}


def test_other_homes_are_named_to_servers_and_default_ones_are_not(homes: Homes, env: dict[str, str]) -> None:
    def claude(environment: dict[str, str]) -> str:
        return doctor_report(environment)["registration"][0]["text"]

    assert claude(env).endswith(" mcp")
    other = env | {"CODEX_HOME": str(homes.root / "other")}
    assert claude(other).endswith(f" mcp --codex-home {homes.root / 'other'}")


def test_the_running_program_is_named_by_an_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "clew"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    assert registration.clew_command() == (str(program),)
    monkeypatch.setattr(sys, "argv", ["pytest"])
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert registration.clew_command() == (str(program),)
    program.unlink()
    assert registration.clew_command() == (str(tmp_path / "python"), "-m", "clew")
