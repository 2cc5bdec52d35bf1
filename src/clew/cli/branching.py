"""`clew tree` and `clew diff`: how threads hang together, and where two of them part."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from clew.cli import terminal
from clew.cli.options import UsageError
from clew.cli.registry import Options
from clew.errors import ClewError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

    from clew.history.briefs import TurnBrief
    from clew.kinship import Branch, Comparison, Side

__all__ = ["diff", "tree"]

_Switch = Parameter(negative="")
_SIDE_BY_SIDE = 110
"""Columns of the terminal from which on two threads stand beside each other."""
_TURNS = 20
_COMMANDS = 8
_SAID = 200
_TROUBLE = 2


async def tree(
    thread: str | None = None,
    /,
    *,
    limit: int = 25,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Show families of threads.

    Parameters
    ----------
    thread
        Id, beginning of an id, name, or last: the family of this thread.
    limit
        Without a thread: how many families at most (25); 0 for all of them.
    json
        As JSON.
    """
    if limit < 0:
        raise UsageError("--limit: a number from 0 up is needed")
    from clew.cli.opening import load_config, open_library

    async with open_library(load_config(options), "clew tree") as threads:
        known = None if thread is None else (await threads.summary(thread)).id
        found = await threads.tree(known, limit=limit or None)
    if json:
        import msgspec

        terminal.write_json({"families": [msgspec.to_builtins(branch) for branch in found]})
    elif not found:
        sys.stdout.write("There is no thread yet.\n")
    else:
        _print_tree(terminal.console(), found, known)
    return 0


async def diff(
    left: str,
    right: str | None = None,
    /,
    *,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Compare two threads.

    Parameters
    ----------
    left
        Id, beginning of an id, name, or last.
    right
        The other one; without it, LEFT is compared with the thread it was forked from.
    json
        As JSON.
    """
    from clew.cli.failures import report
    from clew.cli.opening import load_config, open_library

    try:
        async with open_library(load_config(options), "clew diff") as threads:
            found = await threads.compare(left, right)
    except ClewError as error:
        report(error, debug=options.debug)
        return _TROUBLE
    if json:
        import msgspec

        terminal.write_json({"same": found.same, **msgspec.to_builtins(found)})
    else:
        _print_diff(terminal.console(), found)
    return 0 if found.same else 1


def _print_tree(out: Console, families: Sequence[Branch], wanted: str | None) -> None:
    for place, family in enumerate(families):
        if place and (family.children or families[place - 1].children):
            out.print()
        for lead, branch in _rows(family):
            row = _row(lead, branch, marked=branch.thread.id == wanted)
            if terminal.is_terminal(sys.stdout):
                row.truncate(out.width, overflow="ellipsis")
            out.print(row, soft_wrap=True)


def _rows(family: Branch) -> Iterator[tuple[str, Branch]]:
    """Every branch below the one before it, with the lines that lead to it."""
    waiting: list[tuple[str, str, Branch]] = [("", "", family)]
    while waiting:
        lead, below, branch = waiting.pop()
        yield lead, branch
        children = branch.children
        waiting += reversed(
            [
                (
                    below + ("└─ " if child is children[-1] else "├─ "),
                    below + ("   " if child is children[-1] else "│  "),
                    child,
                )
                for child in children
            ]
        )


def _row(lead: str, branch: Branch, *, marked: bool) -> Text:
    from rich.text import Text

    thread = branch.thread
    row = Text()
    row.append(lead, style="dim")
    row.append(thread.id, style="bold cyan" if marked else "cyan")
    row.append(f"  {terminal.ago(thread.updated_at)}")
    facts: list[str] = [] if branch.kind == "root" else [branch.kind]
    if not lead and branch.source is not None:
        facts.append(f"of {branch.source}, which is not here")
    if branch.kind in ("fork", "copy"):
        facts.append(f"after turn {branch.after_turn}" if branch.after_turn else "before the first turn")
    if thread.archived:
        facts.append("archived")
    if facts:
        row.append(f"  ({', '.join(facts)})", style="dim")
    if thread.name:
        row.append(f"  {terminal.one_line(thread.name)}", style="bold")
    if words := terminal.one_line(thread.error or thread.preview, _SAID):
        row.append(f"  {words}", style="red" if thread.error else "")
    return row


def _print_diff(out: Console, found: Comparison) -> None:
    out.print(_common(found), soft_wrap=True)
    if found.same:
        return
    left, right = _side("<", found.left), _side(">", found.right)
    out.print()
    if out.width >= _SIDE_BY_SIDE and terminal.is_terminal(sys.stdout):
        from rich.console import Group
        from rich.table import Table

        grid = Table.grid(padding=(0, 2), expand=True)
        grid.add_column(ratio=1)
        grid.add_column(ratio=1)
        grid.add_row(Group(*left), Group(*right))
        out.print(grid)
        return
    for lines in (left, right):
        for line in lines:
            out.print(line, soft_wrap=not terminal.is_terminal(sys.stdout))
        if lines is left:
            out.print()


def _common(found: Comparison) -> str:
    turns = _count(found.common, "turn")
    if not found.related:
        return "These threads have nothing to do with each other."
    if found.same:
        return f"No difference: the same {turns}."
    if found.inside:
        return f"{turns} in common; they part within turn {found.common + 1}."
    if not found.common:
        return "No turn in common."
    return f"{turns} in common, up to turn {found.common} ({found.last_common})."


def _side(mark: str, side: Side) -> list[RenderableType]:
    from rich.text import Text

    title = terminal.one_line(side.thread.name or side.thread.preview, 60)
    lines: list[RenderableType] = [
        Text.assemble((f"{mark} ", "bold"), (side.thread.id, "cyan"), (f"  {title}" if title else "", "bold")),
        Text(f"  {_count(len(side.turns), 'turn')} since" if side.turns else "  nothing since", "dim"),
    ]
    for turn in side.turns[:_TURNS]:
        lines += _turn(turn)
    if len(side.turns) > _TURNS:
        lines.append(Text(f"  … {_count(len(side.turns) - _TURNS, 'more turn')}", "dim"))
    return lines


def _turn(turn: TurnBrief) -> Iterator[Text]:
    from rich.text import Text

    status = "" if turn.status == "completed" else f" ({turn.status})"
    yield Text.assemble(
        (f"  {turn.number}{status} > ", "bold cyan"), (terminal.one_line(turn.user, _SAID) or "…", "bold")
    )
    for command in turn.commands[:_COMMANDS]:
        failed = f"  exit code {command.exit_code}" if command.exit_code else ""
        yield Text.assemble(("      $ ", "yellow"), terminal.one_line(command.line, _SAID), (failed, "red"))
    yield from _rest(len(turn.commands), lambda rest: f"      … {_count(rest, 'more command')}")
    for path in turn.files[:_COMMANDS]:
        yield Text.assemble(("      ± ", "yellow"), terminal.one_line(path))
    yield from _rest(len(turn.files), lambda rest: f"      … {_count(rest, 'more file')}")
    if turn.agent:
        yield Text.assemble(("      • ", "bold green"), terminal.one_line(turn.agent, _SAID))


def _rest(count: int, say: Callable[[int], str]) -> Iterator[Text]:
    from rich.text import Text

    if count > _COMMANDS:
        yield Text(say(count - _COMMANDS), "dim")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
