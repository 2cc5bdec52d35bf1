"""`clew config`: values with their sources, for people and for programs."""

from __future__ import annotations

import io

from config_homes import Homes
from rich.console import Console

from clew.cli.config import config_report, render_config
from clew.config import load


def rendered(report: dict[str, object]) -> list[str]:
    stream = io.StringIO()
    render_config(report, Console(file=stream, width=40, highlight=False, markup=False, emoji=False))
    return stream.getvalue().splitlines()


def test_the_report_names_files_values_and_sources(homes: Homes) -> None:
    path = homes.codex_file('model = "m"\nsandbox_mode = "workspace-write"\n')
    homes.clew_file("[clew]\nnothing = 1\n")
    report = config_report(load(homes.env))
    assert report["files"] == [
        {"path": str(path), "exists": True},
        {"path": str(homes.clew / "config.toml"), "exists": True},
    ]
    assert report["profile"] is None
    assert report["providers"] == ["lmstudio", "offline", "ollama", "openai"]
    assert {"key": "model", "value": "m", "source": f"{path}:1"} in report["values"]
    assert len(report["warnings"]) == 1


def test_one_key_and_those_below_it(homes: Homes) -> None:
    config = load(homes.env, overrides=["model=m"])
    assert config_report(config, "model")["values"] == [{"key": "model", "value": "m", "source": "-c"}]
    assert [entry["key"] for entry in config_report(config, "clew")["values"]] == [
        "clew.busy_wait_seconds",
        "clew.approval_timeout_seconds",
        "clew.progress_interval_seconds",
        "clew.codex_events",
        "clew.on_eof",
        "clew.finish_seconds",
        "clew.index_background",
    ]
    assert config_report(config, "mod")["values"] == []


def test_options_and_profiles_are_named_as_sources(homes: Homes) -> None:
    homes.codex_file('[profiles.careful]\napproval_policy = "untrusted"\n')
    options = {"model": ("--model", "n"), "sandbox_workspace_write.writable_roots": ("--add-dir", ["/x"])}
    config = load(homes.env, overrides=["model=m"], options=options, profile="careful")
    sources = {entry.key: (entry.value, entry.source) for entry in config.sources()}
    assert sources["model"] == ("n", "--model")
    assert sources["sandbox_workspace_write.writable_roots"] == (["/x"], "--add-dir")
    assert sources["profile"] == ("careful", "--profile")


def test_lines_for_people_are_whole_and_harmless(homes: Homes) -> None:
    config = load(homes.env, overrides=['developer_instructions="a\\nb\\u001b[31m [bold]x"', "model_context_window=5"])
    lines = rendered(config_report(config))
    (shown,) = [line for line in lines if line.startswith("developer_instructions")]
    assert shown.startswith('developer_instructions = "a b')
    assert shown.endswith("# -c")
    assert "[bold]x" in shown
    assert "\x1b" not in shown
    assert any(line.startswith("model_context_window = 5 ") and line.endswith("# -c") for line in lines)
    assert any(line.startswith("model_reasoning_effort = (not set)") for line in lines)
    assert any(line.startswith("clew.codex_events = false") for line in lines)
