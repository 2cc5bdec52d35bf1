"""`clew fork`, `revert`, `rename`, `archive`, `unarchive`: what is done to threads as a whole."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from clew.cli import terminal
from clew.cli.options import Globals, UsageError
from clew.cli.registry import Options
from clew.errors import ClewError

if TYPE_CHECKING:
    from clew.store.contracts import ThreadSummary
    from clew.threads import Threads

__all__ = ["archive", "fork", "rename", "revert", "unarchive"]

_Switch = Parameter(negative="")


async def fork(
    thread: str,
    /,
    *,
    after_turn: str | None = None,
    before_turn: str | None = None,
    name: str | None = None,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Copy a thread.

    Parameters
    ----------
    thread
        Id, beginning of an id, name, or last.
    after_turn
        The history up to and including this turn.
    before_turn
        The history up to this turn, without it.
    name
        A name for the new thread.
    json
        As JSON.
    """
    if after_turn is not None and before_turn is not None:
        raise UsageError("--after-turn and --before-turn exclude each other")
    from clew.cli.opening import load_config, open_home

    async with open_home(load_config(options), "clew fork") as threads:
        new = await threads.fork(thread, after_turn=after_turn, before_turn=before_turn)
        summary = await threads.rename(new, name) if name else await threads.summary(new)
    _tell([summary], f"{new}\n", json=json)
    return 0


async def revert(thread: str, /, *, before_turn: str, json: Annotated[bool, _Switch] = False, options: Options) -> int:
    """Take a thread back to an earlier turn.

    Parameters
    ----------
    thread
        Id, beginning of an id, name, or last.
    before_turn
        The first turn that is taken back.
    json
        As JSON.
    """
    from clew.cli.opening import load_config, open_home

    async with open_home(load_config(options), "clew revert") as threads:
        summary = await threads.revert(thread, before_turn)
    _tell([summary], f"{summary.id} is back where turn {before_turn} began\n", json=json)
    return 0


async def rename(
    thread: str,
    name: str | None = None,
    /,
    *,
    clear: Annotated[bool, _Switch] = False,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Name a thread.

    Parameters
    ----------
    thread
        Id, beginning of an id, name, or last.
    name
        The new name.
    clear
        Take the name away.
    json
        As JSON.
    """
    if bool(name) == clear:
        raise UsageError("a name or --clear is needed", "For example: clew rename last parser")
    from clew.cli.opening import load_config, open_home

    async with open_home(load_config(options), "clew rename") as threads:
        summary = await threads.rename(thread, name)
    said = f"{summary.id} is called {terminal.one_line(name)}\n" if name else f"{summary.id} has no name any more\n"
    _tell([summary], said, json=json)
    return 0


async def archive(*thread: str, json: Annotated[bool, _Switch] = False, options: Options) -> int:
    """Archive threads.

    Parameters
    ----------
    thread
        Ids, beginnings of ids, or names.
    json
        As JSON.
    """
    return await _each(thread, lambda threads: threads.archive, "archived", json=json, options=options)


async def unarchive(*thread: str, json: Annotated[bool, _Switch] = False, options: Options) -> int:
    """Unarchive threads.

    Parameters
    ----------
    thread
        Ids, beginnings of ids, or names.
    json
        As JSON.
    """
    return await _each(thread, lambda threads: threads.unarchive, "unarchived", json=json, options=options)


async def _each(
    references: tuple[str, ...],
    action: Callable[[Threads], Callable[[str], Awaitable[ThreadSummary]]],
    done: str,
    *,
    json: bool,
    options: Globals,
) -> int:
    """Do it to each; one that fails does not keep the others from it."""
    if not references:
        raise UsageError("which thread?", "`clew list` shows them.")
    from clew.cli.failures import report
    from clew.cli.opening import load_config, open_home

    code = 0
    summaries: list[ThreadSummary] = []
    async with open_home(load_config(options), "clew") as threads:
        for reference in references:
            try:
                summaries.append(await action(threads)(reference))
            except ClewError as error:
                code = max(code, report(error, debug=options.debug))
    _tell(summaries, "".join(f"{summary.id} {done}\n" for summary in summaries), json=json)
    return code


def _tell(summaries: list[ThreadSummary], text: str, *, json: bool) -> None:
    if not json:
        sys.stdout.write(text)
        return
    import msgspec

    terminal.write_json([msgspec.to_builtins(summary) for summary in summaries])
