"""What to write where, so that other programs start `clew mcp`."""

from __future__ import annotations

import json
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["clew_command", "home_arguments", "snippets"]


def clew_command() -> tuple[str, ...]:
    """The running clew as others can start it: an absolute path, or this Python with `-m clew`."""
    started = Path(sys.argv[0])
    candidates = [started if started.stem == "clew" else None, Path(sys.executable).with_name("clew")]
    for candidate in candidates:
        if candidate is None:
            continue
        found = shutil.which(str(candidate))
        if found is not None:
            return (str(Path(found).absolute()),)
    return (sys.executable, "-m", "clew")


def home_arguments(codex_home: Path, clew_home: Path, defaults: tuple[Path, Path]) -> tuple[str, ...]:
    """The options that a server needs to find these homes, none for the default ones."""
    out: list[str] = []
    for option, home, default in zip(("--codex-home", "--clew-home"), (codex_home, clew_home), defaults, strict=True):
        if home != default:
            out += [option, str(home)]
    return tuple(out)


def snippets(command: Sequence[str], arguments: Sequence[str]) -> list[dict[str, str]]:
    """Texts to copy: `client`, the `file` they belong in (empty: a command line), and the `text`."""
    program, *rest = [*command, *arguments]
    entry = {"command": program, "args": rest}
    toml = f"[mcp_servers.clew]\ncommand = {json.dumps(program)}\nargs = {json.dumps(rest)}\ntool_timeout_sec = 3600"
    return [
        {"client": "Claude Code", "file": "", "text": f"claude mcp add codex -- {shlex.join([program, *rest])}"},
        {"client": "Codex", "file": "~/.codex/config.toml", "text": toml},
        {
            "client": "VS Code",
            "file": ".vscode/mcp.json",
            "text": json.dumps({"servers": {"codex": {"type": "stdio", **entry}}}, indent=2, ensure_ascii=False),
        },
        {
            "client": "Cursor",
            "file": "~/.cursor/mcp.json",
            "text": json.dumps({"mcpServers": {"codex": entry}}, indent=2, ensure_ascii=False),
        },
    ]
