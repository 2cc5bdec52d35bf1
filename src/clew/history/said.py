"""What a log says in words: one entry per text, each text once, whatever the era tells it by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Literal, cast

import msgspec

from clew.history.payload import object_from, part_texts, text, words

__all__ = ["Said", "SaidRole", "call_texts", "changed_paths", "command_line", "item_text"]

SaidRole = Literal["user", "agent", "command", "file"]

_SHELLS = ("bash", "sh", "zsh", "dash", "fish", "pwsh", "powershell")
_PATCH = "*** Begin Patch"
_PATCHED = re.compile(r"^\*\*\* (?:(?:Add|Update|Delete) File|Move to): (.+?)\s*$", re.MULTILINE)


class Said(msgspec.Struct, frozen=True, gc=False):
    """One text of a log: who said it, and the line it stands in (`offset`: its first byte in the unpacked file; `at`:
    its time in milliseconds since 1970). `turn_id` where the log names it; `tool`: the name of the tool, for calls;
    `copied`: the line was inherited from another thread by copying."""

    role: SaidRole
    text: str
    offset: int
    at: int | None = None
    turn_id: str | None = None
    tool: str | None = None
    copied: bool = False


class _Arguments(msgspec.Struct):
    cmd: Any = None
    command: Any = None


_arguments = msgspec.json.Decoder(_Arguments)


def call_texts(
    kind: str, name: str | None, arguments: Any, written: Any, action: Any
) -> Iterator[tuple[SaidRole, str, str]]:
    """Role, text and tool of what a call says: its command line, or the files it patches, or its arguments' texts.

    `kind` is the type of the response item; `arguments`, `written` (`input`) and `action` are its members."""
    tool = name or kind
    said = ""
    if kind == "local_shell_call":
        tool = name or "local_shell"
        said = command_line(cast("dict[str, Any]", action).get("command")) if isinstance(action, dict) else ""
    elif kind == "custom_tool_call":
        said = text(written) or ""
    elif isinstance(arguments, str):
        try:
            found = _arguments.decode(arguments)
        except (msgspec.DecodeError, ValueError, RecursionError):
            said = arguments
        else:
            said = command_line(found.cmd if found.cmd is not None else found.command)
            if not said:
                said = "\n".join(_leaves(object_from(arguments.encode("utf-8", "surrogatepass"))))
    if _PATCH in said:
        for path in dict.fromkeys(_PATCHED.findall(said)):
            yield "file", path, tool
        said = said.partition(_PATCH)[0]
    if said and not said.isspace():
        yield "command", said, tool


def command_line(command: Any) -> str:
    """A command as a person would type it: a script without the shell that is started to run it."""
    if isinstance(command, str):
        return command
    parts = words(command)
    if len(parts) == 3 and parts[1].startswith("-") and parts[0].rpartition("/")[2].removesuffix(".exe") in _SHELLS:
        return parts[2]
    return " ".join(parts)


def changed_paths(changes: Any) -> list[str]:
    """The paths in the `changes` of a patch, new names of moved files among them."""
    paths: list[str] = []
    if isinstance(changes, dict):
        for path, change in cast("dict[str, Any]", changes).items():
            paths.append(path)
            if isinstance(change, dict) and (moved := text(cast("dict[str, Any]", change).get("move_path"))):
                paths.append(moved)
    return paths


def item_text(item: dict[str, Any]) -> str:
    """The text of a stored user or agent message: its parts as one."""
    parts = part_texts(item.get("content"))
    return "".join(parts) or text(item.get("text")) or ""


def _leaves(value: Any) -> Iterator[str]:
    """All texts in a JSON value, in order."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for member in cast("dict[str, Any]", value).values():
            yield from _leaves(member)
    elif isinstance(value, list):
        for member in cast("list[Any]", value):
            yield from _leaves(member)
