"""`clew check`: what is wrong with the recorded threads, and what to do about it. Nothing is changed."""

from __future__ import annotations

import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from clew.cli import terminal
from clew.cli.options import Globals
from clew.cli.registry import Options

if TYPE_CHECKING:
    from pathlib import Path

    from clew.rollout import Home
    from clew.store.checking import Checker, Progress
    from clew.store.findings import Finding

__all__ = ["check", "finding_line", "homes", "resolved"]

_Switch = Parameter(negative="")
_COLOURS = {"error": "31;1", "warning": "33;1", "info": "2"}
_PATIENCE = 1.0
_STEP = 0.2


def check(
    *references: str,
    quick: Annotated[bool, _Switch] = False,
    notes: Annotated[bool, _Switch] = False,
    json: Annotated[bool, _Switch] = False,
    options: Options,
) -> int:
    """Check threads.

    Parameters
    ----------
    references
        Ids, beginnings of ids, or names; without any, the whole home.
    quick
        Only beginnings and last lines, not what is between.
    notes
        Also what is normal: open turns, calls without output.
    json
        As JSON.
    """
    from clew.clock import SystemClock
    from clew.rollout import Home, RealFileSystem
    from clew.store.checking import Checker

    codex_home, clew_home = homes(options)
    home = Home(RealFileSystem(), codex_home)
    bar = _Bar() if terminal.is_terminal(sys.stderr) else None
    checker = Checker(home, clew_home, clock=SystemClock(), quick=quick, progress=bar)
    thread_ids = resolved(home, clew_home, references)
    found = checker.some(thread_ids) if thread_ids else checker.home()
    counts: Counter[str] = Counter()
    counted = _counted(found, counts)
    if json:
        _as_json(codex_home, checker, list(counted), counts, bar)
    else:
        _for_people(checker, counted, counts, bar, notes=notes or bool(thread_ids))
    return 1 if counts["error"] or counts["warning"] else 0


def homes(options: Globals) -> tuple[Path, Path]:
    """CODEX_HOME and CLEW_HOME; a wrong configuration must not keep anybody from looking after the files."""
    from clew.config import examine

    config, _ = examine(os.environ, codex_home=options.codex_home, clew_home=options.clew_home)
    return config.codex_home, config.clew_home


def resolved(home: Home, clew_home: Path, references: Iterable[str]) -> list[str]:
    """The ids of threads that are named in any way. Raises `ThreadNotFound`, `AmbiguousName`."""
    from clew.clock import SystemClock
    from clew.errors import Owner
    from clew.rollout import FailPoints
    from clew.store.catalog import HomeCatalog

    owner = Owner("clew check", os.getpid())
    catalog = HomeCatalog(home, clew_home, owner=owner, clock=SystemClock(), fail=FailPoints())
    return list(dict.fromkeys(catalog.resolve(reference).id for reference in references))


def finding_line(found: Finding, *, colour: bool) -> str:
    """One finding on one line, without its thread."""
    word = f"{'note' if found.severity == 'info' else found.severity:<7}"
    if colour:
        word = f"\x1b[{_COLOURS[found.severity]}m{word}\x1b[0m"
    where = f"line {found.line}: " if found.line is not None else ""
    if where and found.offset is not None:
        where = f"line {found.line} (byte {found.offset}): "
    return f"  {word} {found.code}: {where}{terminal.one_line(found.why)}"


def _counted(findings: Iterable[Finding], counts: Counter[str]) -> Iterator[Finding]:
    for found in findings:
        counts[found.severity] += found.count
        yield found


def _as_json(home: Path, checker: Checker, findings: list[Finding], counts: Counter[str], bar: _Bar | None) -> None:
    import msgspec

    if bar is not None:
        bar.clear()
    terminal.write_json(
        {
            "home": str(home),
            "threads": checker.threads,
            "files": checker.seen.files,
            "bytes": checker.seen.bytes,
            "errors": counts["error"],
            "warnings": counts["warning"],
            "notes": counts["info"],
            "findings": [msgspec.to_builtins(found) for found in findings],
        }
    )


def _for_people(
    checker: Checker, findings: Iterable[Finding], counts: Counter[str], bar: _Bar | None, *, notes: bool
) -> None:
    colour = terminal.coloured(sys.stdout)
    helps: dict[str, list[str]] = {}
    at: tuple[str | None, str | None] | None = None
    for found in findings:
        if found.severity == "info" and not notes:
            continue
        if bar is not None:
            bar.clear()
        place = (found.thread_id, found.path)
        if place != at:
            if at is None or at[0] != found.thread_id:
                sys.stdout.write(f"{found.thread_id or 'home'}\n")
            sys.stdout.write(f"  {terminal.one_line(found.path)}\n" if found.path else "")
            at = place
        sys.stdout.write(finding_line(found, colour=colour) + "\n")
        if found.repair is not None and found.severity != "info":
            threads = helps.setdefault(found.repair, [])
            if found.thread_id is not None and found.thread_id not in threads:
                threads.append(found.thread_id)
    if bar is not None:
        bar.clear()
    sys.stdout.write(_sum(checker, counts, shown=notes) if at is None else "\n" + _sum(checker, counts, shown=notes))
    for line in _advice(helps):
        sys.stdout.write(line)


def _sum(checker: Checker, counts: Counter[str], *, shown: bool) -> str:
    parts = [
        _many(counts[severity], word)
        for severity, word in (("error", "error"), ("warning", "warning"), ("info", "note"))
        if counts[severity]
    ]
    hidden = " (--notes shows them)" if counts["info"] and not shown else ""
    files = f"{_many(checker.threads, 'thread')}, {_many(checker.seen.files, 'file')}"
    return f"{files}: {', '.join(parts) or 'nothing is wrong'}{hidden}\n"


def _advice(helps: dict[str, list[str]]) -> Iterator[str]:
    """What to do next: the surgeries that help, on what."""
    from clew.store.repair import REPAIRS

    for name, threads in helps.items():
        on = f" {threads[0]}" if REPAIRS[name].per_thread and len(threads) == 1 else ""
        yield f"Next: clew repair {name}{on} --dry-run\n"


def _many(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


class _Bar:
    """How far it is, on standard error, once it takes longer than a moment."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _PATIENCE
        self._shown = False

    def __call__(self, at: Progress) -> None:
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _STEP
        self._shown = True
        share = 100 * at.bytes // max(1, at.bytes_total)
        sys.stderr.write(f"\r\x1b[Kchecking: {at.files} of {_many(at.files_total, 'file')}, {share} %")
        sys.stderr.flush()

    def clear(self) -> None:
        if self._shown:
            self._shown = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
