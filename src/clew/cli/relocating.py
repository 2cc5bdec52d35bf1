"""`clew relocate`: threads follow their folder to where it is now."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from clew.cli import terminal
from clew.cli.options import Globals, UsageError
from clew.cli.registry import Options

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from clew.library import Library
    from clew.store.checkouts import Candidate
    from clew.store.relocations import Move

__all__ = ["relocate"]

_Switch = Parameter(negative="")
_PAGE = 200


async def relocate(
    old: str | None = None,
    new: str | None = None,
    /,
    *,
    find: Annotated[bool, _Switch] = False,
    search: Annotated[tuple[Path, ...], Parameter(negative="")] = (),
    apply: Annotated[bool, _Switch] = False,
    list_: Annotated[bool, Parameter(name="--list", negative="")] = False,
    undo: str | None = None,
    force: Annotated[bool, _Switch] = False,
    write: Annotated[bool, _Switch] = False,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Tell where a folder is now.

    Parameters
    ----------
    old
        The folder as threads recorded it.
    new
        Where it is now.
    find
        Propose moves: folders that are gone, and checkouts of the same repository.
    search
        With --find: look below this folder, too (repeat it).
    apply
        With --find: tell those that leave no doubt.
    list_
        The moves that were told.
    undo
        Take back the last move of this folder.
    force
        Also while the old folder is still there.
    write
        Record the new folder in the logs of its threads, too, for Codex.
    json
        As JSON.
    """
    asked = [old is not None, find, list_, undo is not None]
    if sum(asked) != 1 or (old is not None) != (new is not None):
        raise UsageError("OLD NEW, --find, --list or --undo OLD is needed", "For example: clew relocate ~/lexer .")
    if (search or apply) and not find:
        raise UsageError("--search and --apply belong to --find")
    if (force and old is None) or (write and not (old or apply)):
        raise UsageError("--force and --write belong to OLD NEW (--write to --find --apply, too)")
    from clew.cli.opening import load_config, open_library

    async with open_library(load_config(options), "clew relocate") as threads:
        if old is not None and new is not None:
            move = await threads.relocate(_absolute(old, options), _absolute(new, options), always=force)
            written, busy = await _write(threads, [move]) if write else (0, [])
            found = await _count(threads, move.old)
            _tell({"move": _plain(move), "threads": found, "written": written, "busy": busy}, json=json, text=None)
            if not json:
                sys.stdout.write(f"{move.old} is {move.new} now: {_threads(found)}\n")
                _tell_written(written, busy, write=write)
            return 1 if busy else 0
        if undo is not None:
            move = await threads.undo_relocation(_absolute(undo, options))
            _tell({"undone": _plain(move)}, json=json, text=f"{move.old} is not {move.new} any more\n")
            return 0
        if list_:
            moves = await threads.relocations()
            _tell({"moves": [_plain(move) for move in moves]}, json=json, text="".join(map(_told, moves)))
            return 0
        candidates = await threads.find_moved([_absolute(str(folder), options) for folder in search])
        return await _proposed(threads, candidates, apply=apply, write=write, json=json)


async def _proposed(threads: Library, candidates: Sequence[Candidate], *, apply: bool, write: bool, json: bool) -> int:
    moves: list[Move] = []
    if apply:
        sure = dict.fromkeys((candidate.old, candidate.new) for candidate in candidates if candidate.sure)
        moves = [await threads.relocate(*one) for one in sure]
    written, busy = await _write(threads, moves) if write else (0, [])
    if json:
        told = {"candidates": [_plain(candidate) for candidate in candidates], "applied": [_plain(m) for m in moves]}
        terminal.write_json({**told, "written": written, "busy": busy})
        return 1 if busy else 0
    for candidate in candidates:
        doubt = "" if candidate.sure else "; others fit as well"
        said = f"{candidate.old} -> {candidate.new} ({_threads(candidate.threads)}; {candidate.why}{doubt})"
        sys.stdout.write(terminal.clean(said) + "\n")
    if not candidates:
        sys.stdout.write("Nothing found: no folder is gone, or no checkout fits. Look elsewhere with --search DIR.\n")
    elif apply:
        sys.stdout.write(f"{len(moves)} told.\n")
    else:
        sys.stdout.write("Nothing is changed. --apply tells those that leave no doubt; or: clew relocate OLD NEW\n")
    _tell_written(written, busy, write=write)
    return 1 if busy else 0


async def _write(threads: Library, moves: Sequence[Move]) -> tuple[int, list[str]]:
    """Record the new folders in the logs; gives how many, and the threads that others hold."""
    from clew.errors import ThreadBusy

    written, busy = 0, list[str]()
    for move in moves:
        for thread_id in [thread_id async for thread_id in _recorded(threads, move.old, archived=False)]:
            try:
                written += await threads.write_folder(thread_id)
            except ThreadBusy as held:
                busy.append(thread_id)
                terminal.warn(held.message, held.hint)
    return written, busy


async def _count(threads: Library, folder: str) -> int:
    return len([thread_id async for thread_id in _recorded(threads, folder, archived=None)])


async def _recorded(threads: Library, folder: str, *, archived: bool | None) -> AsyncIterator[str]:
    """The threads that recorded this folder."""
    from clew.store.contracts import ListQuery

    cursor: str | None = None
    while True:
        query = ListQuery(cwd=folder, archived=archived, sort="created", limit=_PAGE, cursor=cursor)
        page = await threads.list(query)
        for thread in page.threads:
            yield thread.id
        if (cursor := page.next_cursor) is None:
            return


def _absolute(folder: str, options: Globals) -> str:
    return os.path.normpath(options.folder() / Path(folder).expanduser())


def _told(move: Move) -> str:
    return terminal.clean(f"{move.old} -> {move.new}{'' if move.counts else '  (does not count now)'}") + "\n"


def _tell_written(written: int, busy: Sequence[str], *, write: bool) -> None:
    if write:
        sys.stdout.write(f"Recorded in {_threads(written)}{f', {len(busy)} held by others' if busy else ''}\n")


def _threads(count: int) -> str:
    return f"{count} thread{'' if count == 1 else 's'}"


def _plain(value: object) -> Any:
    import msgspec

    return msgspec.to_builtins(value)


def _tell(value: Any, *, json: bool, text: str | None) -> None:
    if json:
        terminal.write_json(value)
    elif text is not None:
        sys.stdout.write(text)
