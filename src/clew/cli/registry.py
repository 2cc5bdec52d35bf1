"""From the table of commands to a parser and to calls. Parsing is cyclopts'.

A command is a function whose parameters are its own options; it may ask for the global ones with a parameter
`options: Options` and gives its exit code (or nothing for 0). It is imported when it is called.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import cyclopts

from clew.cli.commands import COMMANDS, GROUPS, Command, find_command
from clew.cli.options import Globals, UsageError
from clew.offload import run_alone

__all__ = ["Options", "application", "dispatch", "parse"]

Options = Annotated[Globals, cyclopts.Parameter(parse=False)]
"""The type of a command's `options` parameter: the global options, handed in by `dispatch`."""

_COLUMNS = 80
_DASH = "\0"
"""Stands for a lone `-` while cyclopts, which takes it for an option, is at work. No argument can hold it."""


def application(resolve: Callable[[str], Callable[..., Any] | str] = str) -> cyclopts.App:
    """The parser with all commands. `resolve` may put a function in the place of a target; by default none is imported
    yet."""
    app = cyclopts.App(
        name="clew",
        help_format="plaintext",
        help_flags=("--help", "-h"),
        version_flags=(),
        # The descriptions say what holds without an option, where that is not plain.
        default_parameter=cyclopts.Parameter(show_default=False),
        group_parameters=cyclopts.Group("Options"),
    )
    groups = {title: cyclopts.Group(title, sort_key=position) for position, title in enumerate(GROUPS)}
    app["--help"].show = False
    for position, command in enumerate(COMMANDS):
        app.command(
            resolve(command.target),
            name=(command.name, *command.aliases) if command.aliases else command.name,
            help=command.summary,
            help_epilogue=_epilogue(command),
            usage=command.usage and f"Usage: {command.usage}",
            group=groups[command.group],
            sort_key=position,
        )
    return app


def dispatch(arguments: Sequence[str], options: Globals) -> int:
    """Run a command line without its global options and give its exit code. Raises what the command raises."""
    call = parse(arguments, options)
    if inspect.iscoroutinefunction(call.func):
        if find_command(arguments[0]).alone:
            return run_alone(cast("Coroutine[Any, Any, int | None]", call())) or 0
        import anyio

        return anyio.run(cast("Callable[[], Coroutine[Any, Any, int | None]]", call)) or 0
    return call() or 0


def parse(arguments: Sequence[str], options: Globals) -> partial[Any]:
    """The call that a command line without its global options asks for. Raises `UsageError`."""
    words = [_DASH if word == "-" else word for word in arguments]
    # Nothing else is printed by the parser, and rich takes a while to load.
    console = _help_console() if {"--help", "-h"} & set(words) else None
    try:
        run, bound, ignored = application().parse_args(words, exit_on_error=False, print_error=False, console=console)
    except cyclopts.CycloptsError as wrong:
        raise _usage(wrong, arguments) from None
    given = {name: _with_dashes(value) for name, value in bound.kwargs.items()}
    return partial(run, *map(_with_dashes, bound.args), **given, **dict.fromkeys(ignored, options))


def _with_dashes(value: Any) -> Any:
    return type(value)("-") if isinstance(value, str | Path) and str(value) == _DASH else value


def _epilogue(command: Command) -> str:
    width = max(len(line) for line, _ in command.examples)
    wide = max(width + 4 + len(what) for _, what in command.examples) <= _COLUMNS
    examples = "\n".join(
        f"  {line:<{width}}  {what}" if wide else f"  {line}\n      {what}" for line, what in command.examples
    )
    parts = [command.more, f"Examples:\n{examples}", "Options of every command (-C -m -s -a -c -p …): `clew --help`."]
    return "\n\n".join(part for part in parts if part)


def _help_console() -> Any:
    from rich.theme import Theme

    from clew.cli.terminal import console

    out = console(sys.stdout)
    # The grey that is usual here cannot be read on a light ground where there are 16 colours.
    out.push_theme(Theme({"cyclopts.choices": "dim", "cyclopts.default": "dim", "cyclopts.env_var": "dim"}))
    return out


def _usage(wrong: cyclopts.CycloptsError, arguments: Sequence[str]) -> UsageError:
    return UsageError(str(wrong), f"`clew {arguments[0]} --help` explains it.")
