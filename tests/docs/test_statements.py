"""What the documents name exists, and what exists is named: links, files, commands, options, tools, keys, errors."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from functools import cache
from pathlib import Path
from typing import Any, cast, get_args

import pytest
from documents import ALL, DOCS, OURS, ROOT, blocks, inline_code, prose, rows, section

import clew
from clew.cli import failures
from clew.cli.commands import COMMANDS
from clew.cli.entry import main
from clew.config import ServerOptions, examine
from clew.config.providers import Provider
from clew.config.values import INSTRUCTION_FILES, INSTRUCTION_TEXTS
from clew.errors import BadRequest, ClewError, FolderGone, Owner, ThreadArchived, ThreadBusy, ThreadNotFound
from clew.rollout.failpoints import FAIL_POINTS
from clew.rollout.writer import KNOWN_TYPES
from clew.server.mcp.arguments import parse_codex, parse_reply, unparsed_thread
from clew.server.mcp.errors import Refused, explain
from clew.server.mcp.schemas import tool_list

README, CLI, CONFIGURATION, MCP = (
    ROOT / "README.md",
    *(ROOT / "docs" / name for name in ("cli.md", "configuration.md", "mcp.md")),
)
SOURCE = ROOT / "src" / "clew"
FOREIGN_OPTIONS = {"--push-option"}
"""Taken without being listed in any help."""


def _codes(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# -- places


def _anchors(path: Path) -> set[str]:
    """The anchors of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", prose(path), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_links_lead_somewhere(path: Path) -> None:
    broken: list[str] = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"\w+:", target):
            continue
        file, _, anchor = target.partition("#")
        place = (path.parent / file) if file else path
        if not place.exists() or (anchor and anchor not in _anchors(place)):
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_files_of_the_project_that_are_named_exist(path: Path) -> None:
    names = {file.name for folder in ("src", "tests", "benchmarks") for file in (ROOT / folder).rglob("*.py")}
    missing: list[str] = []
    for code in inline_code(path):
        if re.fullmatch(r"[\w./-]+\.py", code):
            there = (ROOT / code).exists() or (SOURCE / code).exists() if "/" in code else code in names
            missing += [] if there else [code]
    assert missing == []


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_modules_and_names_that_are_named_exist(path: Path) -> None:
    for code in inline_code(path):
        match = re.match(r"(clew(?:\.[a-zA-Z_]+)+)", code)
        if match is None or match[1].removeprefix("clew.") in ServerOptions.__struct_fields__:
            continue
        module, name = match[1], ""
        try:
            importlib.import_module(module)
        except ModuleNotFoundError:
            module, _, name = module.rpartition(".")
            assert hasattr(importlib.import_module(module), name), code


@pytest.mark.parametrize("path", ALL, ids=lambda path: path.name)
def test_make_targets_that_are_named_exist(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = set(re.findall(r"(?:`|^    )make ([a-z-]+)", path.read_text(), re.M))
    assert named - targets == set()


def test_the_readme_leads_to_every_document() -> None:
    linked = set(re.findall(r"\]\(docs/([^)#]+)\)", README.read_text()))
    assert linked == {path.name for path in DOCS}


# -- the terminal


@cache
def _help(*words: str) -> str:
    with pytest.MonkeyPatch.context() as patch:
        printed: list[str] = []
        patch.setenv("COLUMNS", "250")
        patch.setattr("sys.stdout", _Printed(printed))
        assert main([*words, "--help"]) == 0
    return "".join(printed)


class _Printed:
    """A stand-in for standard output that keeps what is written."""

    encoding = "utf-8"

    def __init__(self, parts: list[str]) -> None:
        self._parts = parts

    def write(self, text: str) -> int:
        self._parts.append(text)
        return len(text)

    def flush(self) -> None:
        return

    def isatty(self) -> bool:
        return False


def test_the_readme_lists_the_commands_of_the_help() -> None:
    listed = [block.text.split() for block in blocks(README, "text")]
    commands, _, _ = _help().partition("Options of every command")
    in_help = re.findall(r"^  ([a-z]+)(?:, [\w-]+)* {2,}\S", commands, re.M)
    assert listed == [in_help]


def test_the_command_line_page_lists_every_command() -> None:
    text = CLI.read_text()
    table = [cells[0] for cells in rows(text[: text.index("## ")]) if cells[0].startswith("`clew ")]
    told = {tuple(_codes(cell)) for cell in table}
    assert told == {(f"clew {command.name}", *command.aliases) for command in COMMANDS}


def test_options_that_are_named_exist() -> None:
    known = set(re.findall(r"--[a-z][a-z-]*", "".join(_help(*words) for words in [(), *((c.name,) for c in COMMANDS)])))
    named: set[str] = set()
    for path in OURS:
        texts = [*inline_code(path), *(block.text for block in blocks(path) if block.language in ("sh", "console"))]
        for text in texts:
            if "codex" not in text.split() and not text.startswith(("git ", "make ", "uv ")):
                named |= set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))
    assert named - known - FOREIGN_OPTIONS == set()


def test_every_option_of_exec_is_told() -> None:
    told = set(re.findall(r"--[a-z][a-z-]*", section(CLI, "exec")))
    shown = set(re.findall(r"^│ (?:\* +)?(?:--?[\w-]+ )*?(--[a-z][a-z-]*)", _help("exec"), re.M))
    assert shown - told == set()


def test_exit_codes_are_those_of_the_program() -> None:
    told = {cells[0] for cells in rows(section(CLI, "Exit codes"))}
    codes = (failures.OK, failures.FAILED, failures.USAGE, failures.INTERRUPTED)
    assert told == {*(str(code) for code in codes), "128 + N"}


# -- the server


def test_every_tool_is_told_with_its_arguments() -> None:
    tools = {tool.name: list(cast("dict[str, Any]", tool.input_schema["properties"])) for tool in tool_list()}
    told = {
        cells[0].strip("`"): _codes(cells[1])
        for cells in rows(section(MCP, "The thread tools"))
        if re.fullmatch(r"`threads?_\w+`", cells[0])
    }
    calls = list(rows(section(MCP, "The tools that run turns")))
    told["codex"] = [cells[0].strip("`") for cells in calls if cells[1]]
    told["codex-reply"] = [cells[0].strip("`") for cells in calls if cells[2]]
    assert {name: sorted(names) for name, names in told.items()} == {
        name: sorted(names) for name, names in tools.items()
    }


def test_every_tool_is_named_in_the_readme() -> None:
    assert {tool.name for tool in tool_list()} - set(inline_code(README)) == set()


def test_answers_of_the_thread_tools_have_the_members_that_are_told() -> None:
    outputs = {tool.name: set(cast("dict[str, Any]", (tool.output_schema or {})["properties"])) for tool in tool_list()}
    wrong = {
        cells[0]: set(_codes(cells[2])) - outputs[cells[0].strip("`")] - {"thread", "where", "snippet"}
        for cells in rows(section(MCP, "The thread tools"))
        if cells[0].startswith("`thread") and "above" not in cells[2]
    }
    assert {tool: names for tool, names in wrong.items() if names} == {}


def _refusal(call: Any, arguments: dict[str, Any] | None) -> str:
    with pytest.raises(Refused) as refused:
        call(arguments)
    return refused.value.text


def test_error_texts_are_told_as_they_are() -> None:
    told = {cells[0]: cells[1].strip("` ").split("…")[0].rstrip("`") for cells in rows(section(MCP, "Errors"))}
    real: dict[str, str | ClewError] = {
        "no arguments": _refusal(parse_codex, None),
        "no prompt": _refusal(parse_codex, {}),
        "wrong type": _refusal(parse_codex, {"prompt": 1}),
        "unknown argument of `codex`": _refusal(parse_codex, {"prompt": "", "bogus": 1}),
        "no thread named": _refusal(parse_reply, {"prompt": ""}),
        "neither id nor name": unparsed_thread("nope").text,
        "unknown id": ThreadNotFound("ID"),
        "wrong argument of a thread tool": BadRequest("limit", "expected a number from 1 to 200"),
        "archived": ThreadArchived("ID"),
        "held by another program": ThreadBusy("ID", Owner("PROGRAM", 4711, "HOST", "TIME", "TURN", 200.0)),
        "the folder is gone": FolderGone("PATH", thread_id="ID"),
    }
    for case, expected in real.items():
        text = expected if isinstance(expected, str) else explain(expected)
        start = told[case].replace("pid N", "pid 4711").strip()
        assert start
        assert text.startswith(start), case


# -- the library


def test_the_library_page_names_what_there_is() -> None:
    text = (ROOT / "docs" / "library.md").read_text()
    members = {name for kind in (clew.Threads, clew.Thread) for name in vars(kind) if not name.startswith("_")}
    assert {name for name in members if f"`{name}`" not in text} == {"id", "settings"}
    events = {kind.__name__ for kind in get_args(clew.Event)} | {kind.__name__ for kind in get_args(clew.Change)}
    assert {name for name in events if f"`{name}`" not in text and f"clew.{name}(" not in text} == set()
    arguments = set(inspect.signature(clew.open).parameters)
    told = {name for cells in rows(section(ROOT / "docs" / "library.md", "Opening")) for name in _codes(cells[0])}
    assert told == arguments


# -- configuration, files, fail points


def _known_keys(tmp_path: Path) -> dict[str, Any]:
    config, _ = examine({"HOME": str(tmp_path)})
    return {entry.key: entry.value for entry in config.sources() if not entry.key.endswith("_home")}


def test_every_configuration_key_is_told_and_no_other(tmp_path: Path) -> None:
    known = {key for key in _known_keys(tmp_path) if not key.startswith(("clew.", "retention."))}
    known |= {*INSTRUCTION_FILES, *INSTRUCTION_TEXTS, "experimental_compact_prompt_file", "profile"}
    told = {key for cells in rows(section(CONFIGURATION, "Keys")) for key in _codes(cells[0])}
    assert told - {'projects."PATH".trust_level'} == known
    retention = {key: value for key, value in _known_keys(tmp_path).items() if key.startswith("retention.")}
    for key, value in retention.items():
        assert f"{key.removeprefix('retention.')} = {json.dumps(value)} " in CONFIGURATION.read_text()


_LATER = {"model_context_window", "tool_output_token_limit"}
"""Keys whose default belongs to the agent: not configured is None."""


def test_defaults_are_told_as_they_are(tmp_path: Path) -> None:
    values = _known_keys(tmp_path)
    wrong: dict[str, tuple[str, Any]] = {}
    for key, default, *_ in rows(section(CONFIGURATION, "Keys")):
        first, told = _codes(key)[0], _codes(default)[:1]
        value = values.get(first)
        if first in _LATER or not (told or default.isdecimal()):
            assert value is None, key
            continue
        text = told[0] if told else default
        shown = str(value).lower() if isinstance(value, bool) else str(value).replace("'", '"')
        if text != shown:
            wrong[key] = (text, value)
    assert wrong == {}


def test_the_clew_table_shows_every_switch_with_its_default(tmp_path: Path) -> None:
    (block,) = [block for block in blocks(CONFIGURATION, "toml") if block.text.startswith("[clew]")]
    (tmp_path / "config.toml").write_text(block.text)
    config, _ = examine({"HOME": str(tmp_path), "CODEX_HOME": str(tmp_path), "CLEW_HOME": str(tmp_path)})
    assert config.server == ServerOptions()
    assert set(re.findall(r"^(\w+) =", block.text, re.M)) == set(ServerOptions.__struct_fields__)


def test_every_key_of_a_provider_is_told() -> None:
    told = {key for cells in rows(section(CONFIGURATION, "Providers")) for key in _codes(cells[0])}
    fields = set(Provider.__struct_fields__) - {"id", "bearer_token", "requires_key", "env_key_instructions"}
    assert fields - told == set()


def test_environment_variables_that_are_told_are_read() -> None:
    source = "".join(path.read_text().lower() for path in SOURCE.rglob("*.py"))
    missing = [
        name
        for cells in rows(section(CONFIGURATION, "Environment"))
        for name in re.findall(r"`([A-Z][A-Z_]+)`", cells[0])
        if name.lower() not in source and name.lower().removesuffix("_proxy") not in ("http", "https")
    ]
    assert missing == []


def test_line_types_are_told() -> None:
    told = {cells[0].strip("`") for cells in rows(section(ROOT / "docs" / "files.md", "A line"))}
    written = {name for name in KNOWN_TYPES if not name.startswith("inter_agent")}
    assert written - told == set()


def test_every_fail_point_is_told() -> None:
    told = {
        name for cells in rows(section(ROOT / "docs" / "durability.md", "Fail points")) for name in _codes(cells[0])
    }
    assert told == FAIL_POINTS


def test_the_place_for_measurements_is_marked() -> None:
    _, _, rest = README.read_text().partition("<!-- measured -->")
    table, end, _ = rest.partition("<!-- /measured -->")
    head = next(line for line in table.splitlines() if line.startswith("|"))
    assert end
    assert [cell.strip() for cell in head.strip("|").split("|")][:4] == ["what", "target", "clew", "Codex 0.169.0"]
