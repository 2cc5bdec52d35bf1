"""`clew repair`: named surgeries on recorded threads, and how to undo them."""

from __future__ import annotations

import os
import socket
import sys
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from clew.cli import terminal
from clew.cli.checking import finding_line, homes, resolved
from clew.cli.options import UsageError, did_you_mean
from clew.cli.registry import Options

if TYPE_CHECKING:
    from clew.store.repair import Repaired, RepairPlan, Repairs

__all__ = ["repair"]

_Switch = Parameter(negative="")


def repair(
    name: str | None = None,
    /,
    *references: str,
    list_: Annotated[bool, Parameter(name="--list", negative="")] = False,
    dry_run: Annotated[bool, _Switch] = False,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Repair threads.

    Parameters
    ----------
    name
        The repair; or undo, with the stamp of a backup.
    references
        Ids, beginnings of ids, or names; without any, all threads it helps.
    list_
        Show the repairs, and the backups there are.
    dry_run
        Only say what would be done.
    json
        As JSON.
    """
    from clew.clock import SystemClock, utc_stamp
    from clew.errors import Owner
    from clew.rollout import Home, RealFileSystem
    from clew.store.repair import REPAIRS, Repairs

    if list_ is not (name is None) or (list_ and (references or dry_run)):
        raise UsageError("the name of a repair, or --list, is needed", "`clew repair --list` shows them.")
    codex_home, clew_home = homes(options)
    fs, clock = RealFileSystem(), SystemClock()
    owner = Owner("clew repair", os.getpid(), socket.gethostname(), utc_stamp(clock.now()))
    repairs = Repairs(fs, codex_home, clew_home, clock=clock, owner=owner)
    if name is None:
        _show_all(repairs, json=json)
        return 0
    if name == "undo":
        return _undo(repairs, references, dry_run=dry_run, json=json)
    known = REPAIRS.get(name)
    if known is None:
        hint = did_you_mean(name, [*REPAIRS, "undo"]) or "`clew repair --list` shows them."
        raise UsageError(f"there is no repair called {name!r}", hint)
    if references and not known.per_thread:
        raise UsageError(f"{name} works on the whole home; name no thread")
    on: list[str | None] = [*resolved(Home(fs, codex_home), clew_home, references)]
    return _work(repairs, name, on or repairs.candidates(name), dry_run=dry_run, json=json, debug=options.debug)


def _work(repairs: Repairs, name: str, thread_ids: list[str | None], *, dry_run: bool, json: bool, debug: bool) -> int:
    """Do it to each; one that fails does not keep the others from it."""
    from clew.cli.failures import report
    from clew.errors import ClewError

    code = 0
    done: list[RepairPlan | Repaired] = []
    for thread_id in thread_ids:
        try:
            plan = repairs.plan(name, thread_id)
            if not json:
                _say_plan(plan, dry_run=dry_run)
            if dry_run or not plan.steps:
                done.append(plan)
                continue
            result = repairs.apply(name, thread_id)
            done.append(result)
            if not json:
                _say_done(result)
        except (ClewError, OSError) as error:
            code = max(code, report(error, debug=debug))
    if json:
        _write(done)
    elif not thread_ids:
        sys.stdout.write(f"There is nothing for {name} to do.\n")
    return code


def _undo(repairs: Repairs, stamps: tuple[str, ...], *, dry_run: bool, json: bool) -> int:
    if len(stamps) != 1 or dry_run:
        raise UsageError("undo needs the stamp of one backup", "`clew repair --list` shows them.")
    backup = repairs.undo(stamps[0])
    if json:
        import msgspec

        terminal.write_json(msgspec.to_builtins(backup))
        return 0
    for kept in backup.files:
        sys.stdout.write(f"  {terminal.one_line(kept.path)} is {'as before' if kept.before else 'gone again'}\n")
    sys.stdout.write(f"{backup.repair} of {backup.stamp} is undone.\n")
    return 0


def _show_all(repairs: Repairs, *, json: bool) -> None:
    from clew.store.repair import REPAIRS

    backups = repairs.backups()
    if json:
        import msgspec

        known = [{"name": each.name, "summary": each.summary, "helps": sorted(each.codes)} for each in REPAIRS.values()]
        terminal.write_json({"repairs": known, "backups": [msgspec.to_builtins(backup) for backup in backups]})
        return
    width = max(map(len, REPAIRS))
    sys.stdout.writelines(f"{each.name:<{width}}  {each.summary}\n" for each in REPAIRS.values())
    if backups:
        sys.stdout.write("\nBackups (clew repair undo STAMP):\n")
    for backup in backups:
        on = f" {', '.join(backup.thread_ids)}" if backup.thread_ids else ""
        state = "" if backup.state == "done" else f" ({backup.state})"
        sys.stdout.write(f"{backup.stamp}  {backup.repair}{on}{state}\n")


def _say_plan(plan: RepairPlan, *, dry_run: bool) -> None:
    sys.stdout.write(f"{plan.thread_id or 'home'}\n")
    if not plan.steps:
        sys.stdout.write(f"  nothing for {plan.repair} to do\n")
    for step in plan.steps:
        sys.stdout.write(f"  {'would' if dry_run else 'will'} {terminal.one_line(step)}\n")
    sys.stdout.flush()


def _say_done(done: Repaired) -> None:
    if done.stamp is None:
        sys.stdout.write("  nothing is left to do; another program was faster\n")
        return
    sys.stdout.write(f"  done; to put the originals back: clew repair undo {done.stamp}\n")
    colour = terminal.coloured(sys.stdout)
    if done.left:
        sys.stdout.write("  still found:\n")
    sys.stdout.writelines(f"  {finding_line(found, colour=colour)}\n" for found in done.left)


def _write(done: list[Any]) -> None:
    import msgspec

    terminal.write_json([msgspec.to_builtins(each) for each in done])
