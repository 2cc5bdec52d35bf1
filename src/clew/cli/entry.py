"""Where `clew` begins: global options, the quick ways that need no parser, exit codes.

Kept light on purpose: whatever is heavy is imported by the command that needs it.
"""

from __future__ import annotations

import gc
import io
import signal
import sys
from collections.abc import Sequence

from clew.cli import terminal
from clew.cli.options import Globals, UsageError, take_globals

__all__ = ["main"]

_SERVERS = ("mcp", "mcp-server")
_VERSION = ("--version", "-V")
_HELP = ("--help", "-h")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line (without the program's name) and give its exit code: 0 done, 1 failed, 2 wrong usage,
    130 interrupted."""
    if argv is None:
        # A short command is mostly imports, whose objects all stay: looking through them again and again is a tenth of
        # its time.
        gc.set_threshold(50_000, 20, 20)
        if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
            # A shell that starts a program in the background has it ignore interrupts. What is ignored, commands that
            # are run would ignore, too, and could not be interrupted; what is handled, they do not inherit.
            signal.signal(signal.SIGINT, _unheard)
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = Globals(debug="--debug" in arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character gets another one, not a traceback.
            stream.reconfigure(errors="replace")
    try:
        options, rest = take_globals(arguments)
        code = _run(options, rest)
        sys.stdout.flush()
    except UsageError as wrong:
        terminal.error(wrong.message, wrong.hint)
        return 2
    except BrokenPipeError:
        # Whoever read our output has seen enough (`clew list | head`).
        terminal.silence()
        return 0
    except KeyboardInterrupt:
        return 130
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException as error:
        from clew.cli.failures import report, root_cause

        match root_cause(error):
            case BrokenPipeError():
                terminal.silence()
                return 0
            case KeyboardInterrupt():
                return 130
            case _:
                return report(error, debug=options.debug)
    else:
        return code


def _unheard(*_: object) -> None:
    """An interrupt that is for others."""


def _run(options: Globals, rest: list[str]) -> int:
    first = rest[0] if rest else "--help"
    if first in _HELP:
        from clew.cli.commands import overview

        sys.stdout.write(overview(colour=terminal.coloured(sys.stdout)))
        return 0
    if first in _VERSION:
        from clew.release import VERSION

        sys.stdout.write(f"clew {VERSION}\n")
        return 0
    if first in _SERVERS and not any(word in _HELP for word in rest):
        from clew.cli.serving import serve

        return serve(rest[1:], options)
    from clew.cli.commands import find_command

    find_command(first)
    from clew.cli.registry import dispatch

    return dispatch(rest, options)
