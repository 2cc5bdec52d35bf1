"""`clew compress`, `clew materialize`: cold threads become small, and plain again."""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from clew.cli import terminal
from clew.cli.options import Globals, UsageError
from clew.cli.registry import Options

if TYPE_CHECKING:
    from clew.store.cold import ColdReport, ColdWorker, Outcome, Progress

    _Watch = Callable[[Progress], None] | None
    _Work = Callable[[ColdWorker, list[str] | None, ColdReport, _Watch], Awaitable[ColdReport]]

__all__ = ["compress", "materialize", "span_seconds"]

_Switch = Parameter(negative="")
_All = Annotated[bool, Parameter(name="--all", negative="")]

_SPAN = re.compile(r"(\d+(?:\.\d+)?)\s*(min|[smhdw])")
_SECONDS = {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_WHY = {
    "busy": "busy",
    "open": "open in another program",
    "recent": "changed lately",
    "active": "not archived",
    "compressed": "compressed already",
    "plain": "plain already",
    "empty": "empty",
    "changed": "changed meanwhile",
    "gone": "gone meanwhile",
    "differs": "with a packed file beside them that differs",
}
_SAID = {"recent": "changed lately", "changed": "changed meanwhile"}
_IN_THE_WAY = frozenset({"busy", "open", "changed", "gone", "differs", "recent", "active"})
"""Reasons for which a thread that was asked for by name is not what was asked for."""


async def compress(
    *references: str,
    all_: _All = False,
    older_than: str | None = None,
    archived_only: Annotated[bool, _Switch] = False,
    dry_run: Annotated[bool, _Switch] = False,
    level: int | None = None,
    rate: float | None = None,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Compress threads.

    Parameters
    ----------
    references
        Ids, beginnings of ids, or names.
    all_
        All threads that are cold.
    older_than
        Only what did not change for so long: 12h, 7d, 2w (with --all: 7d).
    archived_only
        Only archived threads.
    dry_run
        Say what would be done, and do nothing.
    level
        From 1 (fast) to 19 (small); 3.
    rate
        At most so many MB of text per second.
    json
        As JSON.
    """
    _one_of(references, all_, "compress")
    from clew.rollout.packing import LEVEL
    from clew.store.cold import DAY, ColdRules

    default = 7 * DAY if all_ else 0.0
    if rate is not None and rate <= 0:
        raise UsageError("--rate: a number of MB per second above 0 is needed", "For example: --rate 20")
    rules = ColdRules(
        older_than=default if older_than is None else span_seconds(older_than),
        archived_only=archived_only,
        dry_run=dry_run,
        rate=None if rate is None else rate * 1e6,
        level=LEVEL if level is None else level,
    )
    run = _Command("compress", references, options, json=json, dry_run=dry_run)
    return await run.go(
        lambda worker, only, report, progress: worker.compress(rules, only=only, report=report, progress=progress)
    )


async def materialize(
    *references: str, all_: _All = False, json: Annotated[bool, _Switch] = False, options: Options
) -> int:
    """Unpack threads.

    Parameters
    ----------
    references
        Ids, beginnings of ids, or names.
    all_
        All compressed threads.
    json
        As JSON.
    """
    _one_of(references, all_, "materialize")
    run = _Command("materialize", references, options, json=json)
    return await run.go(
        lambda worker, only, report, progress: worker.materialise(only, report=report, progress=progress)
    )


def span_seconds(text: str) -> float:
    """Seconds in `12h`, `7d`, `0`. Raises `UsageError`."""
    if text.strip() == "0":
        return 0.0
    if (span := _SPAN.fullmatch(text.strip())) is None:
        raise UsageError(f"--older-than: {text!r} is no length of time", "For example: 30min, 12h, 7d, 2w, or 0.")
    return float(span[1]) * _SECONDS[span[2]]


def _one_of(references: tuple[str, ...], all_: bool, command: str) -> None:
    if bool(references) == all_:
        if all_:
            raise UsageError("threads and --all exclude each other")
        raise UsageError("which threads?", f"Name them (`clew list` shows them), or: clew {command} --all")


class _Command:
    """What both commands share: finding the threads, showing how far it is, telling what was done."""

    def __init__(
        self, name: str, references: tuple[str, ...], options: Globals, *, json: bool, dry_run: bool = False
    ) -> None:
        self._name = name
        self._references = references
        self._options = options
        self._json = json
        self._dry_run = dry_run

    async def go(self, work: _Work) -> int:
        import anyio

        from clew.cli.opening import load_config
        from clew.clock import SystemClock, utc_stamp
        from clew.errors import Owner
        from clew.rollout import Home, RealFileSystem
        from clew.store.cold import ColdReport, ColdWorker

        config = load_config(self._options)
        clock = SystemClock()
        program = f"clew {self._name}"
        owner = Owner(program, os.getpid(), socket.gethostname(), utc_stamp(clock.now()))
        worker = ColdWorker(Home(RealFileSystem(), config.codex_home), config.clew_home, owner=owner, clock=clock)
        code, only = await self._found() if self._references else (0, None)
        report = ColdReport()
        if only is None or only:
            try:
                with _shown(self._name) as progress:
                    await work(worker, only, report, progress)
            except anyio.get_cancelled_exc_class():
                self._tell(report)
                raise
        self._tell(report)
        return max(code, self._code(report))

    async def _found(self) -> tuple[int, list[str]]:
        """The ids that the references mean; one that means nothing does not keep the others from it."""
        from clew.cli.failures import report
        from clew.cli.opening import load_config, open_library
        from clew.errors import ClewError

        code = 0
        found: list[str] = []
        async with open_library(load_config(self._options), f"clew {self._name}") as threads:
            for reference in self._references:
                try:
                    found.append((await threads.summary(reference)).id)
                except ClewError as error:
                    code = max(code, report(error, debug=self._options.debug))
        return code, list(dict.fromkeys(found))

    def _code(self, report: ColdReport) -> int:
        hindered = self._references and any(outcome.reason in _IN_THE_WAY for outcome in report.outcomes)
        return 1 if hindered or report.of("failed") else 0

    def _tell(self, report: ColdReport) -> None:
        if self._json:
            import msgspec

            terminal.write_json(
                {
                    "files": [msgspec.to_builtins(outcome) for outcome in report.outcomes],
                    "skipped": dict(report.skipped),
                    "before": report.before,
                    "after": report.after,
                    "cleaned": report.cleaned,
                    "seconds": report.seconds,
                    "stopped": report.stopped,
                    "dry_run": self._dry_run,
                }
            )
        else:
            sys.stdout.writelines(self._lines(report))
        for outcome in report.outcomes:
            if outcome.result == "failed":
                terminal.error(f"thread {outcome.thread_id}: {outcome.message}")
            elif outcome.result == "skipped" and self._references and outcome.reason in _IN_THE_WAY:
                terminal.error(*_explained(outcome))

    def _lines(self, report: ColdReport) -> Generator[str]:
        done = report.of("compressed", "materialised", "planned")
        if self._references or self._dry_run:
            for outcome in done:
                yield f"{outcome.thread_id} {_change(outcome)}\n"
            for outcome in report.of("skipped"):
                if outcome.reason not in _IN_THE_WAY:
                    yield f"{outcome.thread_id} {_WHY[outcome.reason]}\n"
        if self._references and len(report.outcomes) == 1:
            return
        parts = [f"{_counted(len(done))} {self._verb()}"]
        if done:
            sizes = _bytes(report.before) if self._dry_run else _sizes(report.before, report.after)
            parts[0] += f": {sizes}"
        if report.skipped:
            reasons = (f"{count} {_WHY[reason]}" for reason, count in sorted(report.skipped.items()))
            parts.append(f"passed over: {', '.join(reasons)}")
        if failed := len(report.of("failed")):
            parts.append(f"{failed} failed")
        if report.cleaned:
            parts.append(f"{report.cleaned} forgotten temporary {'file' if report.cleaned == 1 else 'files'} removed")
        if report.stopped:
            parts.append("stopped before the end; the rest is as it was")
        yield f"{'; '.join(parts)}\n"

    def _verb(self) -> str:
        if self._dry_run:
            return "would be compressed"
        return "compressed" if self._name == "compress" else "unpacked"


@contextmanager
def _shown(name: str) -> Generator[_Watch]:
    """A bar on standard error while the work goes on, when a person looks."""
    if not terminal.is_terminal(sys.stderr):
        yield None
        return
    from rich import progress as bars

    with bars.Progress(
        bars.TextColumn(name),
        bars.BarColumn(),
        bars.DownloadColumn(),
        bars.TransferSpeedColumn(),
        bars.TimeRemainingColumn(),
        console=terminal.console(sys.stderr),
        transient=True,
    ) as bar:
        task = bar.add_task(name, total=None)

        def show(progress: Progress) -> None:
            bar.update(task, completed=progress.bytes, total=progress.of_bytes)

        yield show


def _explained(outcome: Outcome) -> tuple[str, str]:
    """What kept a thread that was asked for from it, and what to do."""
    reason = outcome.reason
    said = outcome.message or f"thread {outcome.thread_id} {_SAID.get(reason, f'is {_WHY[reason]}')}"
    hint = {
        "recent": "A smaller --older-than takes it, too.",
        "active": "Without --archived-only it is taken, too.",
        "differs": "Look at both; the plain one counts. Remove the other one if it is not needed.",
    }.get(reason, "Close it there, or try again later.")
    return said, hint


def _change(outcome: Outcome) -> str:
    if outcome.result == "planned":
        return f"would be compressed: {_bytes(outcome.before)}"
    verb = "compressed" if outcome.result == "compressed" else "unpacked"
    return f"{verb}: {_sizes(outcome.before, outcome.after)}"


def _sizes(before: int, after: int) -> str:
    if not before or not after:
        return f"{_bytes(before)} → {_bytes(after)}"
    factor = max(before, after) / min(before, after)
    return f"{_bytes(before)} → {_bytes(after)} ({factor:.1f} times {'smaller' if after <= before else 'larger'})"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError  # the last unit takes all


def _counted(count: int) -> str:
    return f"{count} file" if count == 1 else f"{count} files"
