"""Layers, values and the errors that name file and line."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from config_homes import Homes

from clew.config import DEFAULT_MODEL, OFFLINE_MODEL, ServerOptions, examine, load, parse_overrides
from clew.errors import ConfigInvalid, ProviderUnknown
from clew.settings import ApprovalPolicy, Overrides, Sandbox, SandboxMode, Settings


def invalid(homes: Homes, **more: object) -> str:
    with pytest.raises(ConfigInvalid) as caught:
        load(homes.env, **more)  # pyright: ignore[reportArgumentType]  the tests pass what `load` takes
    return str(caught.value)


def test_nothing_configured_gives_careful_defaults(tmp_path: Path) -> None:
    config = load({"HOME": str(tmp_path)})
    assert (config.codex_home, config.clew_home) == (tmp_path / ".codex", tmp_path / ".clew")
    assert config.settings("/w") == Settings(
        cwd="/w",
        model=DEFAULT_MODEL,
        provider="openai",
        approval=ApprovalPolicy.ON_REQUEST,
        sandbox=Sandbox(mode=SandboxMode.READ_ONLY),
        endpoint=config.provider("openai"),
    )
    assert config.server == ServerOptions()
    assert config.project_doc_max_bytes == 32768
    assert config.project_root_markers == (".git",)
    assert config.warnings == ()


def test_homes_come_from_arguments_then_variables(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "CODEX_HOME": str(tmp_path / "cx"), "CLEW_HOME": "~/cl"}
    assert (load(env).codex_home, load(env).clew_home) == (tmp_path / "cx", tmp_path / "cl")
    assert load(env, codex_home=tmp_path / "other").codex_home == tmp_path / "other"
    assert load({"HOME": str(tmp_path), "CODEX_HOME": ""}).codex_home == tmp_path / ".codex"


def test_later_layers_win_key_by_key(homes: Homes) -> None:
    homes.codex_file(
        'model = "codex"\nsandbox_mode = "workspace-write"\napproval_policy = "untrusted"\ntui = { x = 1 }\n'
        "[sandbox_workspace_write]\nnetwork_access = true\nexclude_slash_tmp = true\n"
        '[profiles.work]\nmodel = "codex-profile"\nmodel_reasoning_effort = "high"\n'
    )
    homes.clew_file(
        'model = "clew"\nmodel_reasoning_effort = "low"\n[sandbox_workspace_write]\nnetwork_access = false\n'
    )
    config = load(homes.env)
    assert (config.model, config.model_reasoning_effort, config.approval_policy) == ("clew", "low", "untrusted")
    assert config.sandbox == Sandbox(mode=SandboxMode.WORKSPACE_WRITE, exclude_slash_tmp=True)

    profiled = load(homes.env, profile="work")
    assert (profiled.profile, profiled.model, profiled.model_reasoning_effort) == ("work", "codex-profile", "high")

    flagged = load(homes.env, profile="work", overrides=["model=flag", "sandbox_workspace_write.network_access=true"])
    assert (flagged.model, flagged.model_reasoning_effort) == ("flag", "high")
    assert flagged.sandbox.network_access is True

    called = flagged.with_overrides({"model": "call", "model_reasoning_effort": None})
    assert (called.model, called.model_reasoning_effort) == ("call", "high")
    assert flagged.model == "flag"


def test_a_profile_may_be_a_file_of_its_own_or_be_chosen_in_a_file(homes: Homes) -> None:
    homes.codex_file('profile = "work"\nmodel = "base"\n')
    homes.codex_file('model = "from file"\n', "work.config.toml")
    assert load(homes.env).model == "from file"
    assert load(homes.env, overrides=["profile=work"]).profile == "work"
    assert invalid(homes, profile="play") == (
        "--profile: there is no profile `play` (neither [profiles.play] nor play.config.toml) in `profile`"
    )
    assert "no profile `../work`" in invalid(homes, profile="../work")


def test_a_file_that_does_not_parse_is_named_with_its_line(homes: Homes) -> None:
    path = homes.codex_file('model = "a"\nsandbox_mode = read-only\n')
    assert invalid(homes) == f"{path}:2: Invalid value (column 16)"
    path.write_text('model = "a"\n\n[broken\n')
    assert invalid(homes).startswith(f"{path}:3: ")
    path.write_text('a = 1\nb = """\nnever closed\n')
    assert invalid(homes) == f"{path}:3: Unterminated string (end of file)"
    path.write_bytes(b'a = 1\nb = "\xff"\n')
    assert invalid(homes) == f"{path}:2: not UTF-8"
    path.unlink()
    path.mkdir()
    assert invalid(homes) == f"{path}: cannot be read: Is a directory"


def test_a_byte_order_mark_and_windows_line_ends_are_read(homes: Homes) -> None:
    (homes.codex / "config.toml").write_bytes(b'\xef\xbb\xbfmodel = "a"\r\napproval_policy = "never"\r\n')
    config = load(homes.env)
    assert (config.model, config.approval_policy) == ("a", ApprovalPolicy.NEVER)


_SANDBOXES = "`read-only`, `workspace-write`, `danger-full-access`"
_POLICIES = "`untrusted`, `on-failure`, `on-request`, `granular`, `never`"
_SUMMARIES = "`auto`, `concise`, `detailed`, `none`"


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("sandbox_mode", "'open'", f"unknown variant `open`, expected one of {_SANDBOXES}"),
        ("approval_policy", "'sometimes'", f"unknown variant `sometimes`, expected one of {_POLICIES}"),
        ("model_reasoning_summary", "'long'", f"unknown variant `long`, expected one of {_SUMMARIES}"),
        ("model", "3", "invalid type: integer `3`, expected a string"),
        ("model_context_window", "true", "invalid type: boolean `true`, expected a whole number"),
        ("model_context_window", "1.5", "invalid type: floating point `1.5`, expected a whole number"),
        ("project_doc_fallback_filenames", "'X.md'", "invalid type: string 'X.md', expected a list of strings"),
        ("sandbox_workspace_write.writable_roots", "[1]", "invalid type: integer `1`, expected a string"),
        ("sandbox_workspace_write.network_access", "[]", "invalid type: sequence, expected a boolean"),
        ("sandbox_workspace_write", "1", "invalid type: integer `1`, expected a table"),
        ("model_providers.x", "1", "invalid type: integer `1`, expected a table"),
        ("clew.busy_wait_seconds", "-1", "invalid value: `-1`, expected a number of seconds from 0 up"),
        ("clew.busy_wait_seconds", "1979-05-27", "invalid type: datetime, expected a number of seconds"),
        ("openai_base_url", "'ftp://x'", "invalid value: 'ftp://x', expected an http or https address"),
    ],
)
def test_a_wrong_value_is_named_with_file_line_and_what_is_allowed(
    homes: Homes, key: str, value: str, why: str
) -> None:
    path = homes.clew_file(f"# first\n\n{key} = {value}\n")
    assert invalid(homes) == f"{path}:3: {why} in `{key}`"


def test_a_negative_number_and_one_too_large_are_refused(homes: Homes) -> None:
    path = homes.clew_file("tool_output_token_limit = -1")
    most = 2**63 - 1
    why = f"invalid value: integer `-1`, expected a number from 0 to {most} in `tool_output_token_limit`"
    assert invalid(homes) == f"{path}:1: {why}"


def test_all_problems_are_found_at_once_and_the_rest_still_holds(homes: Homes) -> None:
    codex = homes.codex_file('model = "good"\nsandbox_mode = "open"\n')
    clew = homes.clew_file("not toml at all")
    config, problems = examine(homes.env, overrides=["approval_policy=maybe"])
    assert [(problem.path, problem.line) for problem in problems] == [(str(clew), 1), ("-c", 0), (str(codex), 2)]
    assert (config.model, config.sandbox.mode) == ("good", SandboxMode.READ_ONLY)


def test_old_and_granular_policies_are_read_as_on_request(homes: Homes) -> None:
    homes.codex_file('approval_policy = "on-failure"')
    assert load(homes.env).approval_policy is ApprovalPolicy.ON_REQUEST
    homes.codex_file("approval_policy = { granular = { sandbox_approval = false } }")
    assert load(homes.env).approval_policy is ApprovalPolicy.ON_REQUEST


def test_flags_are_toml_or_else_plain_text() -> None:
    assert parse_overrides(
        ["a=1", "b = true", 'c="x"', "d=o3", "e=['p', 'q']", "f='half", "g=", "h=a=b", "i=1\nj=2", "k={l = 1}"]
    ) == {
        "a": 1, "b": True, "c": "x", "d": "o3", "e": ["p", "q"], "f": "half", "g": "", "h": "a=b", "i": "1\nj=2",
        "k": {"l": 1},
    }  # fmt: skip
    for bad in ("novalue", "=x"):
        with pytest.raises(ConfigInvalid, match="is not of the form key=value"):
            parse_overrides([bad])


def test_wrong_flags_name_the_flag(homes: Homes) -> None:
    assert invalid(homes, overrides=["sandbox_mode=all"]).startswith(
        "-c: unknown variant `all`, expected one of `read-only`"
    )
    assert invalid(homes, overrides=["a..b=1"]) == "-c: `a..b` is not a dotted key"


def test_wrong_values_of_a_call_read_as_those_of_the_original_server(homes: Homes) -> None:
    config = load(homes.env)
    with pytest.raises(ConfigInvalid) as caught:
        config.with_overrides({"sandbox_mode": "bad"})
    assert caught.value.why == f"unknown variant `bad`, expected one of {_SANDBOXES}\nin `sandbox_mode`\n"
    with pytest.raises(ProviderUnknown, match=r"^Model provider `nope` not found$"):
        config.settings("/w", {"config": {"model_provider": "nope"}})
    with pytest.raises(ConfigInvalid, match="expected a map"):
        config.settings("/w", {"config": [1]})


def test_named_arguments_win_over_the_map_and_the_map_over_files(homes: Homes) -> None:
    homes.codex_file('model = "file"\nmodel_instructions_file = "base.md"\n')
    homes.codex_file("Be brief.\n", "base.md")
    config = load(homes.env)
    settings = config.settings(
        homes.root,
        {
            "prompt": "hello",
            "model": "named",
            "cwd": "sub/../deep",
            "approval-policy": "never",
            "sandbox": "workspace-write",
            "developerInstructions": "Speak German.",
            "compact_prompt": None,
            "config": {
                "model": "mapped",
                "model_reasoning_effort": "high",
                "sandbox_workspace_write": {"writable_roots": ["/data"], "network_access": True},
                "model_provider": "offline",
            },
        },
    )
    assert settings == Settings(
        cwd=str(homes.root / "deep"),
        model="named",
        provider="offline",
        approval=ApprovalPolicy.NEVER,
        sandbox=Sandbox(mode=SandboxMode.WORKSPACE_WRITE, writable_roots=("/data",), network_access=True),
        effort="high",
        base_instructions="Be brief.",
        developer_instructions="Speak German.",
        endpoint=config.provider("offline"),
    )
    assert config.settings("/w", {"base-instructions": "Mine."}).base_instructions == "Mine."
    assert config.settings("/w", {"config": {"instructions": "Map's."}}).base_instructions == "Map's."


def test_a_provider_that_only_the_call_defines_comes_with_its_settings(homes: Homes) -> None:
    config = load(homes.env)
    call = {"config": {"model_provider": "mine", "model_providers.mine": {"base_url": "http://127.0.0.1:9/v1"}}}
    settings = config.settings("/w", call)
    assert settings.endpoint is not None
    assert (settings.provider, settings.endpoint.id, settings.endpoint.base_url) == (
        "mine",
        "mine",
        "http://127.0.0.1:9/v1",
    )


def test_the_offline_provider_has_its_own_default_model(homes: Homes) -> None:
    config = load(homes.env, overrides=["model_provider=offline"])
    assert config.settings("/w").model == OFFLINE_MODEL
    assert load(homes.env, overrides=["model_provider=offline", "model=m"]).model == "m"


def test_overrides_hold_only_what_a_call_names(homes: Homes) -> None:
    homes.codex_file('model = "file"\nsandbox_mode = "danger-full-access"\napproval_policy = "never"\n')
    config = load(homes.env, overrides=["model_reasoning_effort=high"])
    assert config.overrides_named(None) == Overrides()
    assert config.overrides_named({"prompt": "x", "threadId": "y"}) == Overrides()
    assert config.overrides_named(
        {"model": "m", "cwd": "sub", "config": {"approval_policy": "untrusted", "model_provider": "offline"}},
        cwd="/w",
    ) == Overrides(
        model="m",
        cwd="/w/sub",
        approval=ApprovalPolicy.UNTRUSTED,
        provider="offline",
        endpoint=config.provider("offline"),
    )
    assert config.overrides_named(
        {"sandbox": "workspace-write", "config": {"sandbox_workspace_write.network_access": True}}
    ) == Overrides(sandbox=Sandbox(mode=SandboxMode.WORKSPACE_WRITE, network_access=True))
    assert config.overrides_named({"base-instructions": "B", "effort": "low", "summary": "none"}) == Overrides(
        base_instructions="B", effort="low", summary="none"
    )
    with pytest.raises(ConfigInvalid) as caught:
        config.overrides_named({"config": {"sandbox_workspace_write.network_access": True}})
    assert caught.value.why == "needs `sandbox_mode` beside it\nin `sandbox_workspace_write`\n"


def test_writable_roots_start_from_the_file_that_names_them(homes: Homes) -> None:
    homes.codex_file(
        'sandbox_mode = "workspace-write"\nsandbox_workspace_write.writable_roots = ["x/../y", "~/z", "/a"]'
    )
    assert load(homes.env).sandbox.writable_roots == (str(homes.codex / "y"), str(homes.root / "z"), "/a")


def test_an_instruction_file_that_is_missing_or_empty_is_told_when_a_thread_starts(homes: Homes) -> None:
    path = homes.codex_file('# x\nmodel_instructions_file = "gone.md"\n')
    config = load(homes.env)
    with pytest.raises(ConfigInvalid) as caught:
        config.settings("/w")
    where = homes.codex / "gone.md"
    why = f"{where} cannot be read: No such file or directory in `model_instructions_file`"
    assert str(caught.value) == f"{path}:2: {why}"
    where.write_text(" \n")
    with pytest.raises(ConfigInvalid, match="is empty in `model_instructions_file`"):
        config.settings("/w")


def test_the_compaction_prompt_may_stand_in_a_file(homes: Homes) -> None:
    homes.codex_file('experimental_compact_prompt_file = "c.md"')
    assert "cannot be read" in invalid(homes)
    homes.codex_file("Sum up.\n", "c.md")
    assert load(homes.env).compact_prompt == "Sum up."
    assert load(homes.env, overrides=["compact_prompt=Short."]).compact_prompt == "Short."


def test_switches_of_the_servers_and_a_misspelt_one(homes: Homes) -> None:
    path = homes.clew_file("[clew]\nbusy_wait_seconds = 5\ncodex_events = false\nbusywait = 1\n")
    config = load(homes.env, overrides=["clew.progress_interval_seconds=2.5"])
    assert config.server == ServerOptions(busy_wait_seconds=5.0, codex_events=False, progress_interval_seconds=2.5)
    known = ", ".join(ServerOptions().__struct_fields__)
    assert config.warnings == (f"{path}:4: `clew.busywait` is not known; known are {known}.",)


def test_sources_tell_file_line_flag_variable_and_default(homes: Homes) -> None:
    path = homes.codex_file(
        '\nmodel = "m"\n[model_providers.x]\nname = "X"\nbase_url = "https://u:pw@h/v1"\n'
        'experimental_bearer_token = "s3cret"\nhttp_headers = { X-Key = "s3cret" }\n'
        'query_params = { api-version = "1", api_key = "s3cret" }\n'
    )
    homes.env |= {"OPENAI_API_KEY": "s3cret", "OPENAI_BASE_URL": "http://h/v1"}
    config = load(homes.env, overrides=["approval_policy=never"])
    found = {entry.key: (entry.value, entry.source) for entry in config.sources()}
    assert found["model"] == ("m", f"{path}:2")
    assert found["approval_policy"] == ("never", "-c")
    assert found["sandbox_mode"] == ("read-only", "default")
    assert found["openai_base_url"] == ("http://h/v1", "OPENAI_BASE_URL")
    assert found["openai_api_key"] == ("********", "OPENAI_API_KEY")
    assert found["model_providers.x.base_url"] == ("https://********@h/v1", f"{path}:5")
    assert found["model_providers.x.experimental_bearer_token"] == ("********", f"{path}:6")
    assert found["model_providers.x.http_headers.X-Key"] == ("********", f"{path}:7")
    assert found["model_providers.x.query_params.api-version"] == ("1", f"{path}:8")
    assert "s3cret" not in msgspec.json.encode(config.sources()).decode()
    assert "s3cret" not in repr(config)


def test_sources_of_homes_profile_and_idle_sandbox_details(homes: Homes) -> None:
    path = homes.codex_file(
        'profile = "p"\n[sandbox_workspace_write]\nnetwork_access = true\n[profiles.p]\nmodel = "m"\n'
    )
    homes.env["CODEX_HOME"] = str(homes.codex)
    found = {entry.key: (entry.value, entry.source) for entry in load(homes.env, clew_home=homes.clew).sources()}
    assert found["codex_home"] == (str(homes.codex), "CODEX_HOME")
    assert found["clew_home"] == (str(homes.clew), "--clew-home")
    assert found["profile"] == ("p", f"{path}:1")
    assert found["model"] == ("m", f"{path}:5")
    assert found["sandbox_mode"] == ("read-only", "default")
    assert found["sandbox_workspace_write.network_access"] == (True, f"{path}:3")
