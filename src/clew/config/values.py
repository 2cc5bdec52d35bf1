"""The single values of a configuration: what they are read as, and what holds when they are not there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from clew.config.layers import Layer, Merged
from clew.config.reader import Reader
from clew.errors import ConfigInvalid
from clew.settings import ApprovalPolicy, Sandbox, SandboxMode

__all__ = [
    "INSTRUCTION_FILES",
    "INSTRUCTION_TEXTS",
    "SANDBOX_KEYS",
    "SUMMARIES",
    "ServerOptions",
    "read_approval",
    "read_base_instructions",
    "read_compact_prompt",
    "read_sandbox",
    "read_server",
]

_ENDS = ("finish", "interrupt")
_POLICIES = ("untrusted", "on-failure", "on-request", "granular", "never")
SANDBOX_KEYS = ("writable_roots", "network_access", "exclude_tmpdir_env_var", "exclude_slash_tmp")
SUMMARIES = ("auto", "concise", "detailed", "none")
INSTRUCTION_FILES = ("model_instructions_file", "experimental_instructions_file")
INSTRUCTION_TEXTS = ("base_instructions", "instructions")


class ServerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The table `[clew]`: how the servers behave.

    `busy_wait_seconds`: how long a call waits for a thread that a program other than clew holds open; other clews
    hold a thread for one turn and are waited for in any case.
    `approval_timeout_seconds`: an unanswered question is refused after this time (0: never).
    `progress_interval_seconds`: the longest silence of a running call that asked for progress.
    `codex_events`: whether MCP clients get `codex/event` notifications.
    `on_eof`: what becomes of running turns when an MCP client closes the connection: `finish` them, `finish_seconds`
    long at most, or `interrupt` them.
    `index_background`: whether the index of threads is brought up to date beside other work.
    """

    busy_wait_seconds: float = 2.0
    approval_timeout_seconds: float = 1800.0
    progress_interval_seconds: float = 10.0
    codex_events: bool = False
    on_eof: Literal["finish", "interrupt"] = "finish"
    finish_seconds: float = 600.0
    index_background: bool = True


def _or(value: Any, default: Any) -> Any:
    return default if value is None else value


def read_approval(reader: Reader) -> ApprovalPolicy:
    value = reader.merged.get(("approval_policy",))
    if isinstance(value, dict) and "granular" in value:
        # Codex can switch off single kinds of questions; asking all of them is never wider.
        return ApprovalPolicy.ON_REQUEST
    word = reader.choice("approval_policy", allowed=_POLICIES)
    if word in {None, "on-failure", "granular"}:
        return ApprovalPolicy.ON_REQUEST
    return ApprovalPolicy(word)


def read_sandbox(reader: Reader) -> Sandbox:
    mode = reader.choice("sandbox_mode", allowed=[mode.value for mode in SandboxMode])
    at = "sandbox_workspace_write"
    roots = reader.texts(at, "writable_roots") or ()
    detail = Sandbox(
        mode=SandboxMode.WORKSPACE_WRITE,
        writable_roots=tuple(os.path.normpath(reader.absolute(root, (at, "writable_roots"))) for root in roots),
        network_access=reader.flag(at, "network_access") or False,
        exclude_tmpdir_env_var=reader.flag(at, "exclude_tmpdir_env_var") or False,
        exclude_slash_tmp=reader.flag(at, "exclude_slash_tmp") or False,
    )
    reader.table(at)
    # Never wider than what was configured in so many words.
    chosen = SandboxMode(mode) if mode else SandboxMode.READ_ONLY
    return detail if chosen is SandboxMode.WORKSPACE_WRITE else Sandbox(mode=chosen)


def read_compact_prompt(reader: Reader) -> str | None:
    text = reader.text("compact_prompt")
    if text is not None:
        return text if text.strip() else None
    try:
        return _file_text(reader, "experimental_compact_prompt_file")
    except ConfigInvalid as error:
        reader.problems.append(error)
        return None


def read_base_instructions(layers: Sequence[Layer], user_home: Path) -> str | None:
    """The base instructions of the topmost layer that has any, read from their file if need be. Raises
    `ConfigInvalid`."""
    for layer in reversed(layers):
        reader = Reader(Merged([layer]), user_home)
        for key in INSTRUCTION_FILES:
            text = _file_text(reader, key)
            if text is not None:
                return text
        for key in INSTRUCTION_TEXTS:
            text = reader.text(key)
            if text is not None:
                return text
    return None


def _file_text(reader: Reader, key: str) -> str | None:
    """The text of the file a key names, without blanks around it. Raises `ConfigInvalid`."""
    path = reader.path(key)
    if path is None:
        return None
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise reader.wrong((key,), f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise reader.wrong((key,), f"{path} is not UTF-8") from error
    if not text:
        raise reader.wrong((key,), f"{path} is empty")
    return text


def read_server(reader: Reader) -> tuple[ServerOptions, list[str]]:
    default = ServerOptions()
    names = default.__struct_fields__
    unknown = [
        f"{reader.merged.source(('clew', key))}: `clew.{key}` is not known; known are {', '.join(names)}."
        for key in reader.table("clew")
        if key not in names
    ]
    options = ServerOptions(
        busy_wait_seconds=_or(reader.seconds("clew", "busy_wait_seconds"), default.busy_wait_seconds),
        approval_timeout_seconds=_or(
            reader.seconds("clew", "approval_timeout_seconds"), default.approval_timeout_seconds
        ),
        progress_interval_seconds=_or(
            reader.seconds("clew", "progress_interval_seconds"), default.progress_interval_seconds
        ),
        codex_events=_or(reader.flag("clew", "codex_events"), default.codex_events),
        on_eof="interrupt" if reader.choice("clew", "on_eof", allowed=_ENDS) == "interrupt" else "finish",
        finish_seconds=_or(reader.seconds("clew", "finish_seconds"), default.finish_seconds),
        index_background=_or(reader.flag("clew", "index_background"), default.index_background),
    )
    return options, unknown
