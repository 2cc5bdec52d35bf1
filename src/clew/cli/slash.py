"""What a line of a conversation means: text for the agent, or one of the commands that begin with `/`."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

from clew.cli.options import did_you_mean

__all__ = ["COMMANDS", "Command", "Say", "SlashCommand", "Wrong", "read_line", "slash_help"]

Name = Literal["save", "name", "fork", "compact", "status", "diff", "help", "quit"]


class SlashCommand(NamedTuple):
    """`argument` is its name where one is needed, empty where none is taken."""

    name: Name
    summary: str
    argument: str = ""
    aliases: tuple[str, ...] = ()

    @property
    def usage(self) -> str:
        return f"/{self.name} {self.argument}".strip()


COMMANDS = (
    SlashCommand("save", "save the thread under a name", "NAME"),
    SlashCommand("name", "give the thread a title", "NAME"),
    SlashCommand("fork", "go on in a copy; this thread stays as it is"),
    SlashCommand("compact", "sum up what was said so far, to make room"),
    SlashCommand("status", "which thread this is, its model, folder, rights and tokens"),
    SlashCommand("diff", "what changed in the folder since the last commit"),
    SlashCommand("help", "this list"),
    SlashCommand("quit", "leave; the thread is kept", aliases=("exit",)),
)
_BY_NAME = {name: command for command in COMMANDS for name in (command.name, *command.aliases)}


class Say(NamedTuple):
    """Text for the agent."""

    text: str


class Command(NamedTuple):
    """One of the commands, with its argument."""

    name: Name
    argument: str = ""


class Wrong(NamedTuple):
    """Nothing of the kind; `hint` says what to type instead."""

    message: str
    hint: str


def read_line(line: str) -> Say | Command | Wrong | None:
    """What the person wants; None for an empty line. `//` begins text that goes out with one slash."""
    text = line.strip()
    if not text:
        return None
    if text.startswith("//"):
        return Say(text[1:])
    if not text.startswith("/"):
        return Say(text)
    word, _, argument = re.sub(r"\s+", " ", text[1:]).partition(" ")
    command = _BY_NAME.get(word.lower())
    if command is None:
        near = did_you_mean(word, list(_BY_NAME)).replace("mean ", "mean /")
        return Wrong(f"there is no /{word}", f"{near} /help lists the commands; begin with // to send it.".strip())
    if bool(argument) != bool(command.argument):
        what = f"/{command.name} needs a {command.argument.lower()}" if command.argument else f"/{word} takes nothing"
        return Wrong(what, f"Usage: {command.usage}")
    return Command(command.name, argument)


def slash_help() -> str:
    """The commands, a line each."""
    width = max(len(command.usage) for command in COMMANDS)
    rows = [f"  {command.usage:<{width}}  {command.summary}" for command in COMMANDS]
    return "\n".join([*rows, f"  {'//…':<{width}}  send text that begins with a slash"])
