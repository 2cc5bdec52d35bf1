"""`clew fork`, `revert`, `rename`, `archive`, `unarchive`: what is done to threads as a whole."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from clew.cli import terminal
from clew.cli.options import Globals, UsageError
from clew.cli.registry import Options
from clew.errors import ClewError

if TYPE_CHECKING:
    from clew.keeping import Filed
    from clew.library import Library
    from clew.store.contracts import ThreadSummary

__all__ = ["archive", "fork", "rename", "revert", "unarchive"]

_Switch = Parameter(negative="")


async def fork(
    thread: str,
    /,
    *,
    at: Annotated[str | None, Parameter(name=("--at", "--after-turn"))] = None,
    before: Annotated[str | None, Parameter(name=("--before", "--before-turn"))] = None,
    name: str | None = None,
    copy: Annotated[bool, _Switch] = False,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Copy a thread.

    Parameters
    ----------
    thread
        Id, beginning of an id, name, or last.
    at
        The history up to and including this turn.
    before
        The history up to this turn, without it.
    name
        A name for the new thread.
    copy
        A file that needs no other, for old readers, also where a reference would do.
    json
        As JSON.
    """
    if at is not None and before is not None:
        raise UsageError("--at and --before exclude each other")
    from clew.cli.opening import load_config, open_library

    async with open_library(load_config(options), "clew fork") as threads:
        new = await threads.fork(thread, after_turn=at, before_turn=before, copy=copy, name=name)
        summary = await threads.summary(new)
    _tell([summary], f"{new}\n", json=json)
    return 0


async def revert(
    thread: str,
    /,
    *,
    before: Annotated[str | None, Parameter(name=("--before", "--before-turn"))] = None,
    undo: Annotated[bool, _Switch] = False,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Take a thread back to an earlier turn.

    Parameters
    ----------
    thread
        Id, beginning of an id, name, or last.
    before
        The first turn that is taken back.
    undo
        Undo the last revert; what was done since is taken back instead.
    json
        As JSON.
    """
    if (before is None) != undo:
        raise UsageError("--before TURN or --undo is needed", "For example: clew revert parser --before -1")
    from clew.cli.opening import load_config, open_library

    async with open_library(load_config(options), "clew revert") as threads:
        done = await (threads.restore(thread) if before is None else threads.revert(thread, before))
    summary, turns = done.thread, f"{done.turns} turn{'' if done.turns == 1 else 's'}"
    if json:
        import msgspec

        # What `_tell` prints for one thread, and what became of its turns.
        terminal.write_json([{**msgspec.to_builtins(summary), "turns_taken_back": done.turns}])
        return 0
    if before is None:
        said = f"{summary.id} goes on where it stood before its last revert"
        sys.stdout.write(f"{said}, {turns} done since taken back\n" if done.turns else f"{said}\n")
    else:
        sys.stdout.write(f"{summary.id} is back where turn {before} began, {turns} taken back\n")
    sys.stdout.write(f"Have it as it was: clew revert {summary.id} --undo\n")
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
    from clew.cli.opening import load_config, open_library

    async with open_library(load_config(options), "clew rename") as threads:
        summary = await threads.rename(thread, name)
    said = f"{summary.id} is called {terminal.one_line(name)}\n" if name else f"{summary.id} has no name any more\n"
    _tell([summary], said, json=json)
    return 0


async def archive(
    *thread: str,
    only: Annotated[bool, _Switch] = False,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Archive threads, with those they spawned.

    Parameters
    ----------
    thread
        Ids, beginnings of ids, or names.
    only
        Leave those they spawned where they are.
    json
        As JSON.
    """
    return await _each(
        thread, lambda threads, one: threads.archive(one, only=only), "archived", json=json, options=options
    )


async def unarchive(
    *thread: str,
    only: Annotated[bool, _Switch] = False,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Unarchive threads, with those they spawned.

    Parameters
    ----------
    thread
        Ids, beginnings of ids, or names.
    only
        Leave those they spawned where they are.
    json
        As JSON.
    """
    return await _each(
        thread, lambda threads, one: threads.unarchive(one, only=only), "unarchived", json=json, options=options
    )


async def _each(
    references: tuple[str, ...],
    action: Callable[[Library, str], Awaitable[Filed]],
    done: str,
    *,
    json: bool,
    options: Globals,
) -> int:
    """Do it to each; one that fails does not keep the others from it."""
    if not references:
        raise UsageError("which thread?", "`clew list` shows them.")
    from clew.cli.failures import report
    from clew.cli.opening import load_config, open_library

    code = 0
    filed: list[Filed] = []
    async with open_library(load_config(options), "clew") as threads:
        for reference in references:
            try:
                filed.append(await action(threads, reference))
            except ClewError as error:
                code = max(code, report(error, debug=options.debug))
    text = "".join(f"{one.thread.id} {done}{_also(one)}\n" for one in filed)
    _tell([one.thread for one in filed], text, json=json, more=[{"also": list(one.also)} for one in filed])
    return code


def _also(filed: Filed) -> str:
    if not filed.also:
        return ""
    return f", with {len(filed.also)} thread{'s' if len(filed.also) > 1 else ''} it spawned"


def _tell(summaries: list[ThreadSummary], text: str, *, json: bool, more: Sequence[Mapping[str, object]] = ()) -> None:
    if not json:
        sys.stdout.write(text)
        return
    import msgspec

    rows = [msgspec.to_builtins(summary) for summary in summaries]
    for row, extra in zip(rows, more, strict=False):
        row.update(extra)
    terminal.write_json(rows)
