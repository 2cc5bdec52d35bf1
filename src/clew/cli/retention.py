"""`clew retention`: what the rules of config.toml do to threads."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from clew.cli import terminal
from clew.cli.registry import Options

if TYPE_CHECKING:
    from clew.keeping import RetentionReport

__all__ = ["retention"]

_Switch = Parameter(negative="")
_WILL = {"archive": "would be archived", "compress": "would be compressed", "trash": "would be deleted"}
_DID = {"archive": "archived", "compress": "compressed", "trash": "deleted"}


async def retention(
    *, apply: Annotated[bool, _Switch] = False, json: Annotated[bool, _Switch] = False, options: Options
) -> int:
    """Show what the rules would do.

    Parameters
    ----------
    apply
        Do it.
    json
        As JSON.
    """
    from clew.cli.opening import load_config, open_library

    config = load_config(options)
    async with open_library(config, "clew retention") as threads:
        report = await threads.retention(config.retention, apply=apply)
    if json:
        import msgspec

        terminal.write_json(msgspec.to_builtins(report))
    else:
        _tell(report, rules=len(config.retention.rules))
    return 1 if any(one.failed is not None for one in report.due) else 0


def _tell(report: RetentionReport, *, rules: int) -> None:
    if not rules:
        sys.stdout.write("There are no rules, so nothing is ever done: see [retention] in docs/configuration.md.\n")
        return
    words = _DID if report.applied else _WILL
    for one in report.due:
        title = terminal.one_line(one.thread.name or one.thread.preview, 60)
        also = f" with {len(one.also)} it spawned" if one.also else ""
        what = words[one.action] if one.failed is None else f"not done: {terminal.one_line(one.failed)}"
        sys.stdout.write(f"{one.thread.id} {what}{also} ({terminal.one_line(one.rule)})  {title}\n")
    for one in report.spared:
        sys.stdout.write(f"{one.thread.id} kept: {one.why} ({terminal.one_line(one.rule)})\n")
    if not report.due:
        sys.stdout.write("Nothing is due.\n")
    elif not report.applied:
        sys.stdout.write("Nothing was done yet: clew retention --apply\n")
