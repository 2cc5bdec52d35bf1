"""`clew index`: how it stands with the index of threads, and bringing it up to date."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from clew.cli import terminal
from clew.cli.options import UsageError
from clew.cli.registry import Options

if TYPE_CHECKING:
    from clew.store.index_status import IndexStatus
    from clew.store.intake import WorkReport

__all__ = ["index"]

_Switch = Parameter(negative="")


def index(
    *,
    status: Annotated[bool, _Switch] = False,
    rebuild: Annotated[bool, _Switch] = False,
    background: Annotated[bool, Parameter(negative="", show=False)] = False,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Bring the index of threads up to date.

    Parameters
    ----------
    status
        Only say how it stands.
    rebuild
        Make it anew.
    background
        For clew itself: do it quietly, unless another process is at it.
    json
        As JSON.
    """
    if status and (rebuild or background):
        raise UsageError("--status changes nothing: leave out the other options")
    from clew.config import examine
    from clew.errors import Unsupported
    from clew.index.database import IndexUnavailable
    from clew.rollout import Home, RealFileSystem
    from clew.store.index_status import discard_index, index_status
    from clew.store.index_worker import IndexWorker

    # A wrong configuration must not keep anybody from finding threads.
    config, _ = examine(os.environ, codex_home=options.codex_home, clew_home=options.clew_home)
    home = Home(RealFileSystem(), config.codex_home)
    told: list[str] = []
    try:
        if rebuild:
            discard_index(home, config.clew_home)
        elsewhere = False
        if background:
            os.nice(10)
            IndexWorker(home, config.clew_home).run()
            return 0
        if not status:
            with _shown() as show:
                elsewhere = IndexWorker(home, config.clew_home, notify=told.append).run(progress=show).elsewhere
        found = index_status(home, config.clew_home)
    except IndexUnavailable as error:
        if background:
            return 1
        raise Unsupported("the index", error.notice or str(error)) from error
    for notice in told:
        terminal.warn(notice)
    if elsewhere:
        terminal.warn("another process is at it already")
    _print(found, json=json)
    return 0


def _print(found: IndexStatus, *, json: bool) -> None:
    if json:
        import msgspec

        terminal.write_json(msgspec.to_builtins(found))
        return
    state = "complete" if found.complete else "not complete yet: lists and searches read the files instead"
    if found.working:
        state += "; a process brings it up to date now"
    rows = [
        ("file", found.path),
        ("state", state),
        ("threads", f"{found.threads}"),
        ("files", f"{found.files}" + (f", {found.waiting} of them to be read" if found.waiting else "")),
        ("size", f"{found.bytes / 1e6:.1f} MB"),
        ("looked through", terminal.ago(found.swept_at) if found.swept_at else "never"),
    ]
    sys.stdout.writelines(f"{name:<15} {value}\n" for name, value in rows)


@contextmanager
def _shown() -> Generator[Callable[[WorkReport], None] | None]:
    """A bar on standard error while the work goes on, when a person looks."""
    if not terminal.is_terminal(sys.stderr):
        yield None
        return
    from rich import progress as bars

    with bars.Progress(
        bars.TextColumn("index"),
        bars.BarColumn(),
        bars.MofNCompleteColumn(),
        bars.TimeRemainingColumn(),
        console=terminal.console(sys.stderr),
        transient=True,
    ) as bar:
        task = bar.add_task("index", total=None)

        def show(report: WorkReport) -> None:
            bar.update(task, completed=report.files, total=report.total)

        yield show
