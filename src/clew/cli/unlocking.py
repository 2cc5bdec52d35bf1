"""`clew unlock`: who holds threads; removes what killed programs left, and asks living ones to let go."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from cyclopts import Parameter

from clew.cli import terminal
from clew.cli.options import Globals, UsageError
from clew.cli.registry import Options
from clew.errors import ClewError, Owner, ThreadBusy

if TYPE_CHECKING:
    from pathlib import Path

    from clew.config import Config
    from clew.store.holds import Hold, Holds

__all__ = ["Unlocked", "unlock"]

_Switch = Parameter(negative="")


class Unlocked(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one thread. `outcome`: `free` (nothing was to do), `removed` (files that were left, in `removed`),
    `handed-over` (the holder let go), `held`, or `elsewhere` (another machine; left alone). `why` is the reason."""

    thread_id: str
    outcome: Literal["free", "removed", "handed-over", "held", "elsewhere"]
    owner: Owner | None = None
    why: str = ""
    hint: str = ""
    removed: tuple[str, ...] = ()
    waiting: tuple[Owner, ...] = ()


async def unlock(
    *references: str,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    force: Annotated[bool, _Switch] = False,
    wait: float = 30.0,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Show who holds threads, and free those that nobody holds any more.

    Parameters
    ----------
    references
        Ids, beginnings of ids, names, or last.
    all_
        Every thread that is held, or of whose lock something is left.
    force
        Ask a clew that holds a thread to let go after its turn, and wait for it. Also remove the owner record of
        another machine's process.
    wait
        With --force: for how many seconds (30).
    json
        As JSON.
    """
    if bool(references) == all_:
        raise UsageError("which thread?", "Name some, or give --all; `clew list` shows them.")
    if wait < 0:
        raise UsageError("--wait: a number from 0 up is needed")
    from clew.cli.failures import report
    from clew.cli.opening import load_config
    from clew.rollout.filesystem import RealFileSystem
    from clew.store.holds import Holds

    config = load_config(options)
    holds = Holds(RealFileSystem(), config.codex_home, config.clew_home)
    code = 0
    ids: list[str] = [hold.thread_id for hold in holds.all()] if all_ else []
    for reference in references:
        try:
            ids.append(await _thread_of(reference, config, options))
        except ClewError as error:
            code = max(code, report(error, debug=options.debug))
    done: list[Unlocked] = []
    for thread_id in dict.fromkeys(ids):
        told = await _unlock(holds, thread_id, force=force, wait=wait)
        code = max(code, int(told.outcome in ("held", "elsewhere")))
        done.append(told)
        if not json:
            sys.stdout.write(_words(told))
            sys.stdout.flush()
    if json:
        terminal.write_json([msgspec.to_builtins(told) for told in done])
    elif all_ and not done:
        sys.stdout.write("No thread is held.\n")
    return code


async def _thread_of(reference: str, config: Config, options: Globals) -> str:
    """The id for a reference. A whole id needs no thread on disk: a first turn may have been killed before it wrote."""
    from clew.cli.opening import open_library
    from clew.rollout.names import canonical_id

    whole = canonical_id(reference)
    if whole is not None:
        return whole
    async with open_library(config, "clew unlock") as threads:
        return (await threads.summary(reference)).id


async def _unlock(holds: Holds, thread_id: str, *, force: bool, wait: float) -> Unlocked:
    hold = holds.of(thread_id)
    if hold.state == "held":
        return await _ask(holds, hold, wait) if force else _held(hold, _advice(hold))
    if hold.state == "elsewhere" and not force:
        hint = f"End it there; if it is gone for certain: clew unlock {thread_id} --force"
        return Unlocked(
            thread_id=thread_id, outcome="elsewhere", owner=hold.owner, why=hold.why, hint=hint, waiting=hold.waiting
        )
    try:
        removed = holds.clear(thread_id)
    except ThreadBusy:  # somebody took it at this very moment
        return _held(now := holds.of(thread_id), _advice(now))
    return Unlocked(
        thread_id=thread_id,
        outcome="removed" if removed else "free",
        owner=hold.owner,
        why=hold.why,
        removed=_names(removed),
        waiting=hold.waiting,
    )


async def _ask(holds: Holds, hold: Hold, wait: float) -> Unlocked:
    if not hold.can_ask:
        return _held(hold, _refusal(hold))
    me = Owner("clew unlock", os.getpid(), socket.gethostname())
    try:
        await holds.ask(hold.thread_id, me, wait=wait)
    except ThreadBusy:
        now = holds.of(hold.thread_id)
        ending = f"kill {now.owner.pid}" if now.owner is not None and now.owner.pid else "close it there"
        return _held(now, f"It did not let go within {wait:g} s. Wait longer with --wait, or end its program: {ending}")
    return Unlocked(
        thread_id=hold.thread_id, outcome="handed-over", owner=hold.owner, waiting=holds.of(hold.thread_id).waiting
    )


def _held(hold: Hold, hint: str) -> Unlocked:
    why = "" if hold.owner is not None else "somebody holds its lock, and the system does not tell who"
    return Unlocked(
        thread_id=hold.thread_id, outcome="held", owner=hold.owner, why=why, hint=hint, waiting=hold.waiting
    )


def _advice(hold: Hold) -> str:
    if hold.can_ask:
        return f"It lets go after its turn. To be next: clew unlock {hold.thread_id} --force"
    return _refusal(hold)


def _refusal(hold: Hold) -> str:
    """Why a program that cannot be asked is left alone, and what helps."""
    name = "It" if hold.owner is None else hold.owner.program
    text = f"{name} keeps a thread for as long as it is open there, and cannot be asked. Close it there"
    return text if hold.owner is None or not hold.owner.pid else f"{text}, or end process {hold.owner.pid}"


def _words(told: Unlocked) -> str:
    owner = "another program" if told.owner is None else str(told.owner)
    former = "a program" if told.owner is None else str(replace(told.owner, since=None, turn=None))
    reason = f" ({told.why})" if told.why else ""
    said = {
        "free": "is free",
        "removed": f"is free now: removed what {former} left{reason}",
        "handed-over": f"is free now: {former} let go",
        "held": f"is held by {owner}{reason}",
        "elsewhere": f"may be held by {former}: {told.why}",
    }[told.outcome]
    more = [*(f"waits for it: {waiting}" for waiting in told.waiting), *([told.hint] if told.hint else [])]
    lines = [terminal.one_line(f"{told.thread_id} {said}"), *(f"  {terminal.one_line(line)}" for line in more)]
    return "".join(f"{line}\n" for line in lines)


def _names(paths: list[Path]) -> tuple[str, ...]:
    return tuple(str(path) for path in paths)
