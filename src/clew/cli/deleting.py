"""`clew delete` and `clew trash`: deleting threads, with a way back."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from clew.cli import terminal
from clew.cli.options import UsageError
from clew.cli.registry import Options

if TYPE_CHECKING:
    from clew.keeping import TrashedThreads

__all__ = ["delete", "trash"]

_Switch = Parameter(negative="")


async def delete(
    *thread: str,
    with_forks: Annotated[bool, _Switch] = False,
    why: str | None = None,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Delete threads, with those they spawned.

    Parameters
    ----------
    thread
        Ids, beginnings of ids, or names.
    with_forks
        Delete the threads that were forked from them and read their lines, too.
    why
        A word to remember it by.
    json
        As JSON.
    """
    if not thread:
        raise UsageError("which thread?", "`clew list` shows them.")
    from clew.cli.opening import load_config, open_library

    async with open_library(load_config(options), "clew delete") as threads:
        trashed = await threads.delete(*thread, with_forks=with_forks, why=why)
    if json:
        terminal.write_json(_row(trashed))
        return 0
    sys.stdout.writelines(f"{one.id} deleted{_title(one.title)}\n" for one in trashed.threads)
    sys.stdout.write(f"Have it back: clew trash restore {trashed.id}\n")
    return 0


async def trash(
    action: Literal["list", "restore", "empty"] = "list",
    /,
    *which: str,
    older_than: str | None = None,
    yes: Annotated[bool, _Switch] = False,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Show what was deleted, put it back, or remove it for good.

    Parameters
    ----------
    action
        list, restore or empty.
    which
        What to restore or to remove: an id of the list, any thread in it (id, name), or last.
    older_than
        Remove only what was deleted before: 30min, 12h, 7d, 2w, or a date.
    yes
        Remove without asking.
    json
        As JSON.
    """
    if older_than is not None and action == "restore":
        raise UsageError("--older-than is for `clew trash list` and `clew trash empty`")
    before = _before(older_than)
    match action:
        case "list":
            return await _list(which, before, json=json, options=options)
        case "restore":
            return await _restore(which, json=json, options=options)
        case "empty":
            return await _empty(which, before, yes=yes, json=json, options=options)


def _before(older_than: str | None) -> str | None:
    from clew.cli.listing import since_stamp

    return None if older_than is None else since_stamp(older_than, datetime.now(UTC))


async def _list(which: Sequence[str], before: str | None, *, json: bool, options: Options) -> int:
    if which:
        raise UsageError(f"`clew trash list` takes no {which[0]!r}", "`clew trash restore` puts it back.")
    from clew.cli.opening import load_config, open_library

    async with open_library(load_config(options), "clew trash") as threads:
        entries = [entry for entry in await threads.trash() if before is None or entry.deleted_at < before]
    if json:
        terminal.write_json([_row(entry) for entry in entries])
    elif terminal.is_terminal(sys.stdout):
        if not entries:
            sys.stdout.write("The trash is empty.\n")
        for entry in entries:
            first, more = entry.threads[0], len(entry.threads) - 1
            rest = f" and {more} more" if more else ""
            why = f"  ({terminal.one_line(entry.why)})" if entry.why else ""
            when = terminal.ago(entry.deleted_at)
            sys.stdout.write(f"{entry.id}  {when}  {_bytes(entry.size)}  {first.id}{rest}{_title(first.title)}{why}\n")
    else:
        sys.stdout.writelines(_plain(entry) for entry in entries)
    return 0


async def _restore(which: Sequence[str], *, json: bool, options: Options) -> int:
    if not which:
        raise UsageError("what?", "`clew trash` shows what there is; `clew trash restore last` puts the newest back.")
    from clew.cli.opening import load_config, open_library

    restored: list[TrashedThreads] = []
    async with open_library(load_config(options), "clew trash") as threads:
        for reference in which:
            if any(_means(entry, reference) for entry in restored):
                continue  # it came back with another one
            restored += await threads.undelete(reference)
    if json:
        terminal.write_json([_row(entry) for entry in restored])
    else:
        sys.stdout.writelines(f"{one.id} is back{_title(one.title)}\n" for entry in restored for one in entry.threads)
    return 0


def _waiting(what: str) -> AbstractContextManager[object]:
    """A sign on standard error that something is done, when a person looks: it reads the beginning of every log."""
    return terminal.console(sys.stderr).status(what) if terminal.is_terminal(sys.stderr) else nullcontext()


async def _empty(which: Sequence[str], before: str | None, *, yes: bool, json: bool, options: Options) -> int:
    from clew.cli.opening import load_config, open_library

    async with open_library(load_config(options), "clew trash") as threads:
        entries = await threads.trash()
        if which:
            found = {reference: [entry for entry in entries if _means(entry, reference)] for reference in which}
            for reference, fitting in found.items():
                if len(fitting) != 1:
                    raise UsageError(
                        f"{reference!r} means {'nothing' if not fitting else 'several things'} in the trash",
                        "`clew trash` shows what there is; give the id at the beginning of a line.",
                    )
            entries = list({fitting[0].id: fitting[0] for fitting in found.values()}.values())
        entries = [entry for entry in entries if before is None or entry.deleted_at < before]
        if entries and not yes and not _agreed(entries):
            sys.stderr.write("Nothing was removed.\n")
            return 1
        gone: Sequence[TrashedThreads] = ()
        if entries:
            with _waiting("Looking whether other threads were forked from these"):
                gone = await threads.empty_trash([entry.id for entry in entries])
    if json:
        terminal.write_json([_row(entry) for entry in gone])
    elif not gone:
        sys.stdout.write("There is nothing to remove.\n")
    else:
        count = sum(len(entry.threads) for entry in gone)
        size = _bytes(sum(entry.size for entry in gone))
        sys.stdout.write(f"Removed {count} thread{'s' if count > 1 else ''} for good, {size}.\n")
    return 0


def _agreed(entries: Iterable[TrashedThreads]) -> bool:
    """Whether a person says so."""
    threads = [one for entry in entries for one in entry.threads]
    if not terminal.is_terminal(sys.stdin):
        raise UsageError(f"{len(threads)} threads would be removed for good", "Say --yes to do it without being asked.")
    sys.stderr.writelines(f"{one.id}{_title(one.title)}\n" for one in threads)
    sys.stderr.write(f"Remove {'these ' if len(threads) > 1 else ''}{len(threads)} for good? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _means(entry: TrashedThreads, reference: str) -> bool:
    wanted = reference.strip().lower()
    return entry.id.lower() == wanted or any(
        one.id == wanted or (len(wanted) >= 8 and one.id.startswith(wanted)) or one.title == reference.strip()
        for one in entry.threads
    )


def _row(entry: TrashedThreads) -> dict[str, Any]:
    import msgspec

    return msgspec.to_builtins(entry)


def _plain(entry: TrashedThreads) -> str:
    ids = ",".join(entry.thread_ids)
    columns = (entry.id, entry.deleted_at, str(entry.size), ids, entry.threads[0].title, entry.by, entry.why)
    return "\t".join(terminal.one_line(column) for column in columns) + "\n"


def _title(title: str | None) -> str:
    line = terminal.one_line(title, 60)
    return f"  {line}" if line else ""


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
