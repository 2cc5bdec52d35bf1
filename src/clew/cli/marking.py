"""`clew save`, `tag`, `pin`, `unpin`, `note`: what people put on threads to find them again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from clew.cli import terminal
from clew.cli.options import UsageError
from clew.cli.registry import Options

if TYPE_CHECKING:
    from clew.keeping import Marks

__all__ = ["note", "pin", "save", "tag", "unpin"]

_Switch = Parameter(negative="")


async def save(
    name: str,
    thread: str = "last",
    /,
    *,
    remove: Annotated[bool, _Switch] = False,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Save a thread under a name.

    Parameters
    ----------
    name
        The name; one that led to another thread leads to this one from now on.
    thread
        Id, beginning of an id, name, or last (which it is when none is given).
    remove
        Take the name away.
    json
        As JSON.
    """
    from clew.cli.opening import load_config, open_library

    async with open_library(load_config(options), "clew save") as threads:
        if remove:
            had = await threads.forget_name(name)
            if json:
                terminal.write_json({"name": name.strip(), "thread_id": None, "moved_from": had})
            else:
                sys.stdout.write(f"{terminal.one_line(name)} leads to no thread any more; it led to {had}\n")
            return 0
        saved = await threads.save(name, thread)
    if json:
        import msgspec

        terminal.write_json(msgspec.to_builtins(saved))
        return 0
    sys.stdout.write(f"{saved.thread_id} is saved as {terminal.one_line(saved.name)}\n")
    if saved.moved_from is not None:
        sys.stdout.write(f"Until now that was {saved.moved_from}\n")
    return 0


async def tag(
    thread: str,
    /,
    *tags: str,
    remove: Annotated[bool, _Switch] = False,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Put tags on a thread.

    Parameters
    ----------
    thread
        Id, beginning of an id, name, or last.
    tags
        The tags; without any, those it has are printed.
    remove
        Take these tags away.
    json
        As JSON.
    """
    if remove and not tags:
        raise UsageError("which tag?", "For example: clew tag last parser --remove")
    from clew.cli.opening import load_config, open_library

    async with open_library(load_config(options), "clew tag") as threads:
        thread_id = (await threads.summary(thread)).id
        if not tags:
            marks = await threads.marks(thread_id)
        else:
            marks = await (threads.untag if remove else threads.tag)(thread_id, *tags)
    _tell(thread_id, marks, "".join(f"{terminal.one_line(one)}\n" for one in sorted(marks.tags)), json=json)
    return 0


async def pin(*thread: str, json: Annotated[bool, _Switch] = False, options: Options) -> int:
    """Pin threads.

    Parameters
    ----------
    thread
        Ids, beginnings of ids, names, or last.
    json
        As JSON.
    """
    return await _pinned(thread, pinned=True, json=json, options=options)


async def unpin(*thread: str, json: Annotated[bool, _Switch] = False, options: Options) -> int:
    """Unpin threads.

    Parameters
    ----------
    thread
        Ids, beginnings of ids, names, or last.
    json
        As JSON.
    """
    return await _pinned(thread, pinned=False, json=json, options=options)


async def _pinned(references: tuple[str, ...], *, pinned: bool, json: bool, options: Options) -> int:
    if not references:
        raise UsageError("which thread?", "`clew list` shows them.")
    from clew.cli.opening import load_config, open_library

    async with open_library(load_config(options), "clew pin" if pinned else "clew unpin") as threads:
        # All of them are found before the first is changed.
        wanted = [(await threads.summary(reference)).id for reference in references]
        for one in wanted:
            await (threads.pin if pinned else threads.unpin)(one)
    if json:
        terminal.write_json([{"id": one, "pinned": pinned} for one in wanted])
    else:
        sys.stdout.writelines(f"{one} {'pinned' if pinned else 'unpinned'}\n" for one in wanted)
    return 0


async def note(
    thread: str,
    text: str | None = None,
    /,
    *,
    clear: Annotated[bool, _Switch] = False,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Put a note on a thread, or print it.

    Parameters
    ----------
    thread
        Id, beginning of an id, name, or last.
    text
        The note, or - for standard input; without it, the note is printed.
    clear
        Take the note away.
    json
        As JSON.
    """
    if clear and text is not None:
        raise UsageError("a note or --clear is needed, not both", "For example: clew note last 'try it on macOS'")
    if text == "-":
        text = sys.stdin.read()
    if text is not None and not text.strip():
        raise UsageError("the note is empty", "`clew note THREAD --clear` takes it away.")
    from clew.cli.opening import load_config, open_library

    async with open_library(load_config(options), "clew note") as threads:
        thread_id = (await threads.summary(thread)).id
        if text is None and not clear:
            marks = await threads.marks(thread_id)
        else:
            marks = await threads.note(thread_id, text)
    _tell(thread_id, marks, f"{terminal.clean(marks.note)}\n" if marks.note else "", json=json)
    return 0


def _tell(thread_id: str, marks: Marks, text: str, *, json: bool) -> None:
    if not json:
        sys.stdout.write(text)
        return
    import msgspec

    terminal.write_json({"id": thread_id, **msgspec.to_builtins(marks), "tags": sorted(marks.tags)})
