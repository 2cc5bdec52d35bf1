"""What a failure means for the exit code and for the person: one table, no tracebacks unless asked for."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from typing import cast

from clew import errors
from clew.cli import terminal
from clew.cli.options import UsageError

__all__ = ["EXIT_CODES", "FAILED", "INTERRUPTED", "OK", "USAGE", "exit_code", "report", "root_cause"]

OK = 0
FAILED = 1
USAGE = 2
INTERRUPTED = 130

EXIT_CODES: dict[type[errors.ClewError], int] = {
    errors.BadRequest: USAGE,
    errors.Unsupported: USAGE,
    errors.ClewError: FAILED,
}
"""The most specific class counts."""


def exit_code(error: errors.ClewError) -> int:
    """The exit code of an error of ours."""
    return next((EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES), FAILED)


def report(error: BaseException, *, debug: bool = False) -> int:
    """Tell the person what went wrong and give the exit code."""
    cause = root_cause(error)
    if isinstance(cause, UsageError):
        terminal.error(cause.message, cause.hint)
        return USAGE
    if debug:
        terminal.error("".join(traceback.format_exception(error)).rstrip())
    if isinstance(cause, errors.ClewError):
        terminal.error(cause.message, cause.hint)
        return exit_code(cause)
    if isinstance(cause, OSError):
        where = f"{cause.filename}: " if cause.filename else ""
        terminal.error(f"{where}{cause.strerror or cause}")
        return FAILED
    terminal.error(
        f"this should not have happened: {type(cause).__name__}: {cause}",
        "" if debug else "Run it again with --debug to see where; please report it.",
    )
    return FAILED


def root_cause(error: BaseException) -> BaseException:
    """The one error inside groups of concurrent tasks; our own errors come before others."""
    leaves = list(_leaves(error))
    ours = [leaf for leaf in leaves if isinstance(leaf, errors.ClewError)]
    return (ours or leaves)[0]


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in cast("BaseExceptionGroup[BaseException]", error).exceptions:
            yield from _leaves(inner)
    else:
        yield error
