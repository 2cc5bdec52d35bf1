"""All commands in one table: name, where it lives, one line about it, examples. Parsing is cyclopts'.

A command is a function whose parameters are its own options; it may ask for the global ones with a parameter
`options: Options` and gives its exit code (or nothing for 0). It is imported when it is called.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, cast

import cyclopts

from clew.cli.options import GLOBAL_HELP, Globals, UsageError, did_you_mean

__all__ = ["COMMANDS", "Command", "Options", "application", "dispatch", "parse"]

Options = Annotated[Globals, cyclopts.Parameter(parse=False)]
"""The type of a command's `options` parameter: the global options, handed in by `dispatch`."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command: `target` is `module:function`, `examples` are (command line, what it does)."""

    name: str
    target: str
    group: str
    summary: str
    examples: tuple[tuple[str, str], ...]
    more: str = ""
    aliases: tuple[str, ...] = ()
    shown: bool = True


_GROUPS = _WORK, _SERVE, _KEEP, _SETUP = "Threads", "Servers", "Keeping threads", "Setup"

COMMANDS = (
    Command(
        "list",
        "clew.cli.listing:list_threads",
        _WORK,
        "List threads, newest first.",
        (
            ("clew list --here", "threads that worked in this folder or below it"),
            ("clew list --search parser --since 7d", "what was said about the parser this week"),
            ("clew list --json --limit 0", "all of them, for programs"),
            ("clew list | cut -f1", "ids only: in a pipe, columns are separated by tabs"),
        ),
        aliases=("ls",),
    ),
    Command(
        "show",
        "clew.cli.showing:show",
        _WORK,
        "Show what happened in a thread.",
        (
            ("clew show last", "the newest thread"),
            ("clew show 0199a213 --turns 3", "its last three turns; 8 characters of the id are enough"),
            ("clew show parser --json", "by name, for programs"),
            ("clew show last --raw | jq .type", "the records of its log as they are"),
        ),
    ),
    Command(
        "exec",
        "clew.cli.execution:execute",
        _WORK,
        "Run one turn and print the answer; `exec resume` goes on with a thread.",
        (
            ('clew exec "why does the build fail?"', "a new thread in this folder"),
            ("git diff | clew exec 'review this'", "standard input goes along with the prompt"),
            ("clew exec resume last 'and now fix it'", "go on with the newest thread (ID, name or last)"),
            ("clew exec resume --last 'and now fix it'", "go on with the newest thread of this folder"),
            ("clew exec fork 0199a213 'try it the other way'", "go on in a copy"),
            ("clew exec --json -s workspace-write - < prompt.txt", "events as JSON lines"),
        ),
        more="""\
PROMPT is the text, or `-` for standard input. Text that is piped in beside a prompt is added to it.
Approvals cannot be given here: what would need one is refused. Without a terminal only the final answer goes to
standard output; everything else goes to standard error. Exit codes: 0 the turn completed, 1 it failed or was
interrupted (Ctrl-C), 2 wrong usage.
Accepted for programs that pass them, without an effect here: --thread-source, --cyber-access-program,
--approve-for-me, --ignore-rules.""",
        aliases=("e",),
    ),
    Command(
        "fork",
        "clew.cli.keeping:fork",
        _KEEP,
        "Copy a thread, whole or up to a turn, and print the new id.",
        (
            ("clew fork last", "a second thread with the same history"),
            ("clew fork parser --after-turn TURN", "the history up to and including that turn"),
        ),
    ),
    Command(
        "rename",
        "clew.cli.keeping:rename",
        _KEEP,
        "Give a thread a name, or take it away.",
        (
            ("clew rename last parser", "then `clew show parser` finds it"),
            ("clew rename parser --clear", "no name any more"),
        ),
    ),
    Command(
        "archive",
        "clew.cli.keeping:archive",
        _KEEP,
        "Put threads away; they stay on disk.",
        (("clew archive 0199a213 0199a214", "both vanish from `clew list`"),),
    ),
    Command(
        "unarchive",
        "clew.cli.keeping:unarchive",
        _KEEP,
        "Take archived threads out again.",
        (("clew unarchive 0199a213", "it is listed and can go on"),),
    ),
    Command(
        "inspect",
        "clew.cli.inspection:inspect",
        _KEEP,
        "Print everything that is known about recorded threads, as JSON.",
        (("clew inspect --all --jsonl", "one line per thread"),),
    ),
    Command(
        "mcp",
        "clew.cli.serving:mcp",
        _SERVE,
        "Serve the tools `codex` and `codex-reply` to MCP clients on standard input and output.",
        (
            ("claude mcp add codex -- clew mcp", "register it in Claude Code"),
            ("clew mcp -m gpt-5 -s workspace-write", "defaults for threads that name nothing else"),
        ),
        more="""\
`clew mcp-server` is the same: what `codex mcp-server` was registered with works here, also flags before the word.
Threads survive the server: `codex-reply` finds them on disk.""",
        aliases=("mcp-server",),
    ),
    Command(
        "demo",
        "clew.cli.demo:demo",
        _SETUP,
        "Watch a thread survive a kill: offline, in a temporary folder, in seconds.",
        (
            ("clew demo", "nothing is installed, asked or kept"),
            ("clew demo --keep", "keep the folder to look at the files"),
        ),
    ),
    Command(
        "doctor",
        "clew.cli.doctor:doctor",
        _SETUP,
        "Check this machine and this configuration, and say what to do.",
        (("clew doctor", "what works, what does not, and what to do about it"),),
    ),
    Command(
        "config",
        "clew.cli.config:config",
        _SETUP,
        "Print the configuration that counts, and where each value comes from.",
        (("clew config -m gpt-5", "as a command with this flag would see it"),),
    ),
    Command(
        "completion",
        "clew.cli.completion:completion",
        _SETUP,
        "Print a completion script for bash, zsh or fish.",
        (
            ("source <(clew completion bash)", "in ~/.bashrc"),
            ('clew completion zsh > "${fpath[1]}/_clew"', "once"),
            ("clew completion fish > ~/.config/fish/completions/clew.fish", "once"),
        ),
    ),
)

_DASH = "\0"
"""Stands for a lone `-` while cyclopts, which takes it for an option, is at work. No argument can hold it."""

_TOP = """\
Examples:
  clew demo                                   see what this is about
  clew list --here                            threads of this folder
  clew exec "why does the build fail?"        one turn, the answer on stdout
  clew exec resume last "and now fix it"      go on where it stopped
  claude mcp add codex -- clew mcp            register the server in Claude Code"""


def application(resolve: Callable[[str], Callable[..., Any] | str] = str) -> cyclopts.App:
    """The parser with all commands. `resolve` may put a function in the place of a target; by default none is imported
    yet."""
    app = cyclopts.App(
        name="clew",
        help="Never lose the thread of a coding agent: list, continue and serve its conversations.",
        help_format="plaintext",
        help_epilogue=f"{GLOBAL_HELP}\n\n{_TOP}",
        help_flags=("--help", "-h"),
        version_flags=(),
        help_formatter="default",
    )
    groups = {title: cyclopts.Group(title, sort_key=position) for position, title in enumerate(_GROUPS)}
    app["--help"].show = False
    for position, command in enumerate(COMMANDS):
        app.command(
            resolve(command.target),
            name=(command.name, *command.aliases) if command.aliases else command.name,
            help=command.summary,
            help_epilogue=_epilogue(command),
            group=groups[command.group],
            sort_key=position,
        )
    return app


def dispatch(arguments: Sequence[str], options: Globals) -> int:
    """Run a command line without its global options and give its exit code. Raises what the command raises."""
    call = parse(arguments, options)
    if inspect.iscoroutinefunction(call.func):
        import anyio

        return anyio.run(cast("Callable[[], Coroutine[Any, Any, int | None]]", call)) or 0
    return call() or 0


def parse(arguments: Sequence[str], options: Globals) -> partial[Any]:
    """The call that a command line without its global options asks for. Raises `UsageError`."""
    words = [_DASH if word == "-" else word for word in arguments]
    try:
        run, bound, ignored = application().parse_args(
            words, exit_on_error=False, print_error=False, console=_help_console()
        )
    except cyclopts.CycloptsError as wrong:
        raise _usage(wrong, arguments) from None
    given = {name: _with_dashes(value) for name, value in bound.kwargs.items()}
    return partial(run, *map(_with_dashes, bound.args), **given, **dict.fromkeys(ignored, options))


def _with_dashes(value: Any) -> Any:
    return type(value)("-") if isinstance(value, str | Path) and str(value) == _DASH else value


def _epilogue(command: Command) -> str:
    width = max(len(line) for line, _ in command.examples)
    examples = "\n".join(f"  {line:<{width}}  {what}" for line, what in command.examples)
    parts = [command.more, f"Examples:\n{examples}", "Options of every command (-C -m -s -a -c -p …): `clew --help`."]
    return "\n\n".join(part for part in parts if part)


def _help_console() -> Any:
    from clew.cli.terminal import console

    return console(sys.stdout)


def _usage(wrong: cyclopts.CycloptsError, arguments: Sequence[str]) -> UsageError:
    names = [name for command in COMMANDS for name in (command.name, *command.aliases)]
    if isinstance(wrong, cyclopts.UnknownCommandError):
        return UsageError(
            f"there is no command {arguments[0]!r}",
            did_you_mean(arguments[0], names) or "`clew --help` lists the commands.",
        )
    known = arguments[0] if arguments and arguments[0] in names else ""
    return UsageError(str(wrong), f"`clew {known} --help` explains it." if known else "`clew --help` explains it.")
