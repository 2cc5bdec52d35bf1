"""What the model is told about its surroundings, and what is told again when they change."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from clew.agent.agents_md import AgentsText
from clew.agent.permissions import filesystem_xml, permissions_text
from clew.agent.surroundings import Surroundings, changed, fragment_hash, initial, time_zone
from clew.history.contextual import is_contextual, is_user_boundary
from clew.history.world_state import merge
from clew.settings import ApprovalPolicy, Sandbox, SandboxMode, Settings

WORKSPACE = Sandbox(mode=SandboxMode.WORKSPACE_WRITE)
SETTINGS = Settings(cwd="/w", model="m", provider="offline", sandbox=WORKSPACE)
HERE = Surroundings(settings=SETTINGS, agents=AgentsText(), shell="bash", date="2026-11-20", timezone="Etc/UTC")
AGENTS = AgentsText(text="RULES", directory="/w")


def with_settings(surroundings: Surroundings, **more: Any) -> Surroundings:
    settings = msgspec.structs.replace(surroundings.settings, **more)
    return msgspec.structs.replace(surroundings, settings=settings)


def told(messages: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    for message in messages:
        assert message["type"] == "message"
        assert "id" not in message
    return [(message["role"], [part["text"] for part in message["content"]]) for message in messages]


def environment(*lines: str) -> str:
    return "\n".join(["<environment_context>", *(f"  {line}" for line in lines), "</environment_context>"])


def test_a_window_opens_with_permissions_then_instructions_then_the_environment() -> None:
    here = msgspec.structs.replace(with_settings(HERE, developer_instructions="Speak German."), agents=AGENTS)
    messages, state = initial(here)
    permissions = permissions_text(WORKSPACE, ApprovalPolicy.ON_REQUEST, "/w")
    filesystem = filesystem_xml(WORKSPACE, "/w")
    assert told(messages) == [
        ("developer", [permissions]),
        ("developer", ["Speak German."]),
        (
            "user",
            [
                "# AGENTS.md instructions for /w\n\n<INSTRUCTIONS>\nRULES\n</INSTRUCTIONS>",
                environment(
                    "<cwd>/w</cwd>",
                    "<shell>bash</shell>",
                    "<current_date>2026-11-20</current_date>",
                    "<timezone>Etc/UTC</timezone>",
                    filesystem,
                ),
            ],
        ),
    ]
    assert state == {
        "agents_md": {"directory": "/w", "text": "RULES"},
        "developer_instructions": {"text": fragment_hash("developer", "Speak German.")},
        "environments": {
            "environments": {"local": {"cwd": "/w", "status": "available", "shell": "bash"}},
            "current_date": "2026-11-20",
            "timezone": "Etc/UTC",
            "filesystem": filesystem,
        },
        "model": "m",
        "permissions": {"instructions": fragment_hash("developer", permissions), "approved_command_prefixes": []},
    }


def test_without_instructions_their_sections_are_empty() -> None:
    messages, state = initial(HERE)
    assert [role for role, _ in told(messages)] == ["developer", "user"]
    assert state["agents_md"] == {}
    assert "developer_instructions" not in state


def test_nothing_new_is_nothing_said() -> None:
    assert changed(HERE, initial(HERE)[1], None) == ([], None)
    assert changed(with_settings(HERE, effort="high"), initial(HERE)[1]) == ([], None)


@pytest.mark.parametrize(
    ("now", "roles", "starts", "sections"),
    [
        (
            with_settings(HERE, cwd="/v"),
            ["developer", "user"],
            ["<permissions instructions>", "<environment_context>\n  <cwd>/v</cwd>\n  <shell>"],
            {"permissions", "environments"},
        ),
        (
            with_settings(HERE, approval=ApprovalPolicy.NEVER),
            ["developer"],
            ["<permissions instructions>"],
            {"permissions"},
        ),
        (
            with_settings(HERE, sandbox=Sandbox()),
            ["developer", "user"],
            ["<permissions instructions>", "<environment_context>\n  <current_date>2026-11-20<"],
            {"permissions", "environments"},
        ),
        (
            msgspec.structs.replace(HERE, date="2026-11-21"),
            ["user"],
            ["<environment_context>\n  <current_date>2026-11-21<"],
            {"environments"},
        ),
        (with_settings(HERE, model="n"), ["developer"], ["<model_switch>"], {"model"}),
        (
            with_settings(HERE, developer_instructions="New."),
            ["developer"],
            ["New."],
            {"developer_instructions"},
        ),
        (
            msgspec.structs.replace(HERE, agents=AGENTS),
            ["user"],
            ["# AGENTS.md instructions for /w\n\n<INSTRUCTIONS>\nRULES"],
            {"agents_md"},
        ),
    ],
)
def test_a_changed_section_is_told_again_and_recorded_as_a_patch(
    now: Surroundings, roles: list[str], starts: list[str], sections: set[str]
) -> None:
    before = initial(HERE)[1]
    messages, patch = changed(now, before, None)
    assert patch is not None
    assert [role for role, _ in told(messages)] == roles
    assert all(texts[0].startswith(start) for (_, texts), start in zip(told(messages), starts, strict=True))
    assert set(patch) == sections
    assert merge(before, patch) == initial(now)[1]


def test_what_no_longer_holds_is_taken_back_in_words() -> None:
    before = initial(msgspec.structs.replace(with_settings(HERE, developer_instructions="D"), agents=AGENTS))[1]
    messages, patch = changed(HERE, before)
    assert [texts[0][:50] for _, texts in told(messages)] == [
        "The additional developer instructions given earlie",
        "# AGENTS.md instructions\n\n<INSTRUCTIONS>\nNo AGENTS",
    ]
    assert patch == {"developer_instructions": None, "agents_md": {"directory": None, "text": None}}
    assert merge(before, patch) == initial(HERE)[1]


def test_sections_of_other_programs_are_left_as_they_are() -> None:
    state = initial(HERE)[1]
    state |= {"skills": {"includeInstructions": True}, "realtime": {"active": False}}
    state["permissions"]["approved_command_prefixes"] = [["ls"]]
    state["environments"]["subagents"] = "x"
    assert changed(HERE, state) == ([], None)
    _, patch = changed(with_settings(HERE, approval=ApprovalPolicy.NEVER), state)
    assert patch is not None
    assert set(patch["permissions"]) == {"instructions"}


def test_a_state_that_says_little_gets_what_it_lacks_and_takes_nothing_back() -> None:
    messages, patch = changed(HERE, {"agents_md": None})
    assert [role for role, _ in told(messages)] == ["developer", "user"]
    assert patch is not None
    assert set(patch) == {"agents_md", "environments", "model", "permissions"}


def test_no_message_is_ever_taken_for_a_turn_of_the_user() -> None:
    full = msgspec.structs.replace(with_settings(HERE, cwd="/a & <b>"), agents=AGENTS)
    sets = [initial(HERE)[0], initial(full)[0], changed(full, initial(HERE)[1])[0], changed(HERE, initial(full)[1])[0]]
    sets.append(changed(with_settings(HERE, model="n"), initial(HERE)[1])[0])
    for messages in sets:
        assert messages
        for message in messages:
            assert is_contextual(message)
            assert not is_user_boundary(message)


def test_markup_in_names_is_escaped() -> None:
    text = initial(with_settings(HERE, cwd="/a & <b>"))[0][-1]["content"][0]["text"]
    assert "<cwd>/a &amp; &lt;b&gt;</cwd>" in text
    assert "<root>/a &amp; &lt;b&gt;</root>" in text


@pytest.mark.parametrize("approval", list(ApprovalPolicy))
@pytest.mark.parametrize("mode", list(SandboxMode))
def test_permissions_tell_mode_roots_network_policy_and_how_to_ask(mode: SandboxMode, approval: ApprovalPolicy) -> None:
    sandbox = Sandbox(mode=mode, writable_roots=("/data",), exclude_slash_tmp=True)
    text = permissions_text(sandbox, approval, "/w")
    assert text.startswith(f"<permissions instructions>\n`sandbox_mode` is `{mode.value}`.")
    assert text.endswith("\n</permissions instructions>")
    assert f"`approval_policy` is `{approval.value}`." in text
    assert ("Writable roots: `/w`, `/data`, `$TMPDIR`." in text) is (mode is SandboxMode.WORKSPACE_WRITE)
    assert ("Commands have no network." in text) is (mode is not SandboxMode.FULL_ACCESS)
    asks = approval is not ApprovalPolicy.NEVER and not (
        mode is SandboxMode.FULL_ACCESS and approval is ApprovalPolicy.ON_REQUEST
    )
    assert ('set `sandbox_permissions` to `"require_escalated"`' in text) is asks
    assert "Leave `sandbox_permissions`" in text or "leave `sandbox_permissions`" in text or asks


def test_network_is_told_only_where_the_sandbox_gives_it() -> None:
    open_network = Sandbox(mode=SandboxMode.WORKSPACE_WRITE, network_access=True)
    assert "Commands may use the network." in permissions_text(open_network, ApprovalPolicy.NEVER, "/w")
    closed = Sandbox(mode=SandboxMode.READ_ONLY, network_access=True)
    assert "Commands have no network." in permissions_text(closed, ApprovalPolicy.NEVER, "/w")


class _Noon:
    def now(self) -> float:
        return 1_795_131_000.0  # 2026-11-19T23:30Z

    def monotonic(self) -> float:
        return 0.0


def test_gathering_reads_files_date_and_zone(tmp_path: Path) -> None:
    home, work = tmp_path / "home", tmp_path / "work"
    (work / ".git").mkdir(parents=True)
    home.mkdir()
    (home / "AGENTS.md").write_text("mine")
    (work / "AGENTS.md").write_text("ours")
    settings = msgspec.structs.replace(SETTINGS, cwd=str(work))
    gathered = Surroundings.gather(
        settings, codex_home=home, clock=_Noon(), shell="/usr/bin/zsh", env={"TZ": ":Europe/Berlin"}
    )
    assert gathered == Surroundings(
        settings=settings,
        agents=AgentsText(
            text="mine\n\n--- project-doc ---\n\nours",
            directory=str(work),
            files=(str(home / "AGENTS.md"), str(work / "AGENTS.md")),
        ),
        shell="zsh",
        date="2026-11-20",
        timezone="Europe/Berlin",
    )
    assert gathered.notices == ()


def test_the_zone_is_found_where_systems_keep_it(tmp_path: Path) -> None:
    assert time_zone({}, tmp_path) is None
    (tmp_path / "timezone").write_text("Asia/Tokyo\n")
    assert str(time_zone({"TZ": "No/Such"}, tmp_path)) == "Asia/Tokyo"
    (tmp_path / "localtime").symlink_to("/usr/share/zoneinfo/America/New_York")
    assert str(time_zone({}, tmp_path)) == "America/New_York"
    assert str(time_zone({"TZ": "Europe/Paris"}, tmp_path)) == "Europe/Paris"


# -- against recordings of Codex


def _records(shared: Path, pattern: str) -> list[list[dict[str, Any]]]:
    files = sorted(path for path in (shared / "corpus").glob(pattern) if path.suffix == ".jsonl")
    assert files
    out: list[list[dict[str, Any]]] = []
    for path in files:
        lines = path.read_bytes().splitlines()
        records = [json.loads(line) for line in lines if line.startswith(b"{") and line.endswith(b"}")]
        out.append([record for record in records if "payload" in record])
    return out


def test_hashes_are_those_that_codex_recorded(shared: Path) -> None:
    compared = 0
    for records in _records(shared, "codex/0.169.0/re*_c*/home/sessions/**/*") + _records(
        shared, "wire/agents-md/roll*"
    ):
        text: str | None = None
        for record in records:
            payload = record["payload"]
            if record["type"] == "response_item" and payload.get("role") == "developer":
                first = payload["content"][0]["text"]
                text = first if first.startswith("<permissions") else text
            elif record["type"] == "world_state" and text is not None:
                permissions = payload["state"].get("permissions")
                if permissions is not None:
                    assert permissions["instructions"] == fragment_hash("developer", text)
                    compared += 1
    assert compared >= 4


def test_the_environment_is_spelled_as_codex_spells_it(shared: Path) -> None:
    """A thread of Codex goes on without hearing of its folder, date and rights again."""
    compared = 0
    for records in _records(shared, "wire/agents-md/roll*") + _records(shared, "codex/0.169.0/resume_changed/**/roll*"):
        settings: Settings | None = None
        state: dict[str, Any] = {}
        text = ""
        for record in records:
            payload = record["payload"]
            if record["type"] == "response_item" and payload.get("role") == "user":
                parts = [part["text"] for part in payload["content"]]
                text = next((part for part in parts if part.startswith("<environment_context>")), text)
            elif record["type"] == "world_state":
                state = payload["state"] if payload["full"] else merge(state, payload["state"])
            elif record["type"] == "turn_context":
                policy = payload["sandbox_policy"]
                settings = Settings(
                    cwd=payload["cwd"],
                    model=payload["model"],
                    provider="mock",
                    approval=ApprovalPolicy(payload["approval_policy"]),
                    sandbox=Sandbox(mode=SandboxMode(policy["type"])),
                )
                recorded = state["environments"]
                agents = state["agents_md"]
                here = Surroundings(
                    settings=settings,
                    agents=AgentsText(text=agents.get("text", ""), directory=agents.get("directory")),
                    shell=recorded["environments"]["local"]["shell"],
                    date=recorded["current_date"],
                    timezone=recorded["timezone"],
                )
                messages, patch = changed(here, state)
                assert patch is not None
                assert list(patch) == ["permissions"]  # our own words
                assert len(messages) == 1
                mine = initial(here)[0][-1]["content"][-1]["text"]
                if "<cwd>" in text:
                    assert mine == text
                else:
                    assert mine.endswith(text.removeprefix("<environment_context>\n"))
                compared += 1
    assert compared == 4
