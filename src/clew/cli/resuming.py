"""`clew chat` and `clew resume`: conversations in the terminal, new ones and ones that go on."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, TextIO, cast

from cyclopts import Parameter

from clew.cli import terminal
from clew.cli.options import Globals, UsageError
from clew.cli.registry import Options
from clew.errors import ClewError

if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence

    from clew.cli.chat_input import Reader
    from clew.config import Config
    from clew.store.queries import ThreadSummary
    from clew.threads import Thread, Threads

__all__ = ["chat", "resume"]

_Switch = Parameter(negative="")
_LISTED = 20
ORIGINATOR = "clew_cli"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """Which thread a conversation is with: a new one, the named one, the newest (`last`), or one that is picked."""

    new: bool = False
    reference: str | None = None
    last: bool = False
    everywhere: bool = False
    archived: bool = False
    fork: bool = False
    prompt: str | None = None


def chat(
    prompt: str | None = None,
    /,
    *,
    add_dir: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    options: Options,
) -> int:
    """Talk to the agent.

    Parameters
    ----------
    prompt
        The first message.
    add_dir
        A further folder that may be written to with workspace-write (repeat it).
    """
    return _talk(_Wish(new=True, prompt=prompt), options.with_roots(add_dir))


def resume(
    *words: str,
    last: Annotated[bool, _Switch] = False,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    archived: Annotated[bool, _Switch] = False,
    fork: Annotated[bool, _Switch] = False,
    add_dir: Annotated[tuple[str, ...], Parameter(negative="")] = (),
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Go on with a thread.

    Parameters
    ----------
    words
        The thread (id, beginning of an id, name, or last), and a message.
    last
        The newest thread of this folder.
    all_
        Of any folder: with --last, and in the list to choose from.
    archived
        Choose among archived threads.
    fork
        Go on in a copy; the thread stays as it is.
    add_dir
        A further folder that may be written to with workspace-write (repeat it).
    json
        Print what there is to choose from as JSON, and end.
    """
    most = 1 if last else 2
    if len(words) > most:
        raise UsageError(f"there is more than one message: {words[-2]!r} and {words[-1]!r}", "Put it in quotes.")
    reference = None if last or not words else words[0]
    prompt = words[-1] if len(words) == most else None
    wish = _Wish(reference=reference, last=last, everywhere=all_, archived=archived, fork=fork, prompt=prompt)
    options = options.with_roots(add_dir)
    if json:
        if reference is not None or last:
            raise UsageError("--json prints what there is to choose from", "`clew show THREAD --json` prints one.")
        import anyio

        return anyio.run(_print_choices, wish, options)
    return _talk(wish, options)


def _talk(wish: _Wish, options: Globals) -> int:
    import anyio

    from clew.cli.exec_run import die
    from clew.cli.opening import load_config

    code, number = anyio.run(_converse, wish, load_config(options), options)
    if number is not None:
        die(number)
    return code


async def _converse(wish: _Wish, config: Config, options: Globals) -> tuple[int, signal.Signals | None]:
    from clew.cli import opening
    from clew.cli.chat import Chat
    from clew.cli.chat_view import ChatView

    async with opening.open_home(config, "clew chat" if wish.new else "clew resume") as threads:
        reader = _reader()
        found = await _opened(wish, threads, config, options, reader)
        if found is None:
            return 0, None
        thread, notices = found
        return await Chat(threads, thread, reader, ChatView()).run(wish.prompt, notices)


def _reader() -> Reader:
    from clew.cli.chat_input import LineReader, TerminalReader

    if _screen():
        return TerminalReader()
    stdin = cast("TextIO | None", sys.stdin)  # None when the caller closed it
    if stdin is None:
        raise UsageError("there is nothing to read messages from", "Run it in a terminal, or pipe messages in.")
    return LineReader(stdin.fileno(), watched=terminal.is_terminal(stdin) and terminal.is_terminal(sys.stderr))


def _screen() -> bool:
    """Whether a person sits at a terminal that can move its cursor."""
    streams = (cast("TextIO | None", sys.stdin), sys.stdout)
    return all(stream is not None and terminal.is_terminal(stream) for stream in streams) and os.environ.get(
        "TERM", "dumb"
    ) not in ("", "dumb")


async def _opened(
    wish: _Wish, threads: Threads, config: Config, options: Globals, reader: Reader
) -> tuple[Thread, tuple[str, ...]] | None:
    """The thread, and what to tell about it; None when the person leaves without choosing one."""
    from clew.cli.exec_run import newest
    from clew.cli.opening import default_settings, kept_rights, named_overrides

    defaults = default_settings(config, options)
    if wish.new:
        return await threads.start(defaults, source="cli", originator=ORIGINATOR), ()
    notices: tuple[str, ...] = ()
    reference = wish.reference
    if reference is None and wish.last:
        reference = await newest(threads, None if wish.everywhere else defaults.cwd)
    if reference is None:
        chosen = await _chosen(wish, threads, defaults.cwd, reader)
        if chosen is None:
            return None
        if chosen.archived:
            # It was chosen from among the archived ones: that is what it is taken out for.
            await threads.unarchive(chosen.id)
            notices = ("the thread was archived; it is listed again now",)
        reference = chosen.id
    if wish.fork:
        reference = await threads.fork(reference)
    overrides, warnings = named_overrides(config, options)
    thread = await threads.open(reference, defaults, overrides)
    return thread, (*notices, *warnings, *kept_rights(config, options, thread.settings))


async def _chosen(wish: _Wish, threads: Threads, folder: str, reader: Reader) -> ThreadSummary | None:
    here = not wish.everywhere
    if here:
        # An empty list would be no welcome to somebody who stands in a new folder.
        here = bool(await _choices(threads, folder, archived=wish.archived, limit=1))
    if _screen():
        from clew.cli.exec_run import die
        from clew.cli.picker import Terminated, pick

        try:
            return await pick(threads, folder, here=here, archived=wish.archived)
        except Terminated as told:
            die(told.number)
    found = await _choices(threads, folder if here else None, archived=wish.archived)
    if not found:
        raise ClewError("there is no thread to go on with", hint="Start one: clew chat")
    for number, thread in enumerate(found, start=1):
        title = terminal.one_line(thread.name or thread.preview, 60)
        sys.stdout.write(f"{number}\t{thread.id}\t{terminal.ago(thread.updated_at)}\t{title}\n")
    sys.stdout.flush()
    line = await reader.line()
    if line is None or not line.strip():
        raise UsageError("which thread?", "Give its number, or name it: clew resume ID")
    number = int(line) if line.strip().isdecimal() else 0
    if not 1 <= number <= len(found):
        raise UsageError(f"{line.strip()!r} is no number from 1 to {len(found)}", "Or name it: clew resume ID")
    return found[number - 1]


async def _choices(
    threads: Threads, folder: str | None, *, archived: bool, limit: int = _LISTED
) -> Sequence[ThreadSummary]:
    """The newest threads that belong to no other one."""
    import msgspec

    from clew.store.queries import ListQuery

    query = ListQuery(cwd=folder, archived=archived, limit=max(limit, _LISTED))
    found: list[ThreadSummary] = []
    while True:
        page = await threads.list(query)
        found += [thread for thread in page.threads if thread.parent_id is None]
        if page.next_cursor is None or len(found) >= limit:
            return found[:limit]
        query = msgspec.structs.replace(query, cursor=page.next_cursor)


async def _print_choices(wish: _Wish, options: Globals) -> int:
    import msgspec

    from clew.cli import opening

    config = opening.load_config(options)
    folder = None if wish.everywhere else str(options.folder())
    async with opening.open_home(config, "clew resume") as threads:
        found = await _choices(threads, folder, archived=wish.archived)
    terminal.write_json({"threads": [msgspec.to_builtins(thread) for thread in found]})
    return 0
