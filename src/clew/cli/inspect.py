"""`clew inspect`: everything that can be read of recorded threads, one JSON object per thread.

    clew inspect --codex-home DIR (--all | ID) --jsonl

The home is only read. A damaged thread gets its line too: `skipped` names the lines that could not be used, `error`
says why nothing could be read at all.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import msgspec

from clew.errors import ClewError, LogDamaged, ThreadNotFound, UnsupportedHistory
from clew.history.context import rebuild_forward
from clew.history.payload import object_from, text
from clew.history.summary import summarise
from clew.history.turns import turns
from clew.rollout.chain import read_head, read_thread
from clew.rollout.envelope import Skipped
from clew.rollout.filesystem import RealFileSystem
from clew.rollout.layout import Home, ThreadFiles
from clew.rollout.names import canonical_id

__all__ = ["inspect_home", "inspect_thread", "main"]


def inspect_home(codex_home: Path, reference: str | None, out: TextIO) -> int:
    """Write one line per thread (`reference` None), or the line of one thread (its id). Gives the exit status: 0 when
    every thread has its line, 1 when the thread is not there."""
    home = Home(RealFileSystem(), codex_home)
    names = _names(home)
    if reference is None:
        found = list(home.threads())
    else:
        files = home.find(wanted) if (wanted := canonical_id(reference)) else None
        if files is None:
            sys.stderr.write(f"{ThreadNotFound(reference).explained()}\n")
            return 1
        found = [files]
    encoder = msgspec.json.Encoder()
    for files in found:
        line = inspect_thread(home, files)
        line["name"] = names.get(files.thread_id)
        out.write(encoder.encode(line).decode() + "\n")
    out.flush()
    return 0


def inspect_thread(home: Home, files: ThreadFiles) -> dict[str, Any]:
    """What can be read of one thread."""
    current = files.current
    line: dict[str, Any] = {
        "id": files.thread_id,
        "path": str(current.plain_path),
        "archived": files.archived,
        "name": None,
        "parent_id": None,
        "forked_from": None,
        "history_mode": "legacy",
        "preview": None,
        "context": [],
        "turns": [],
        "skipped": [],
        "error": None,
    }
    try:
        records = list(read_thread(home, files))
        head = read_head(home, current)
        context = rebuild_forward(records, head)
        summary = summarise(head, records)
    except UnsupportedHistory as error:
        return {**line, "history_mode": error.mode, "error": _failure("unsupported_history_mode", error)}
    except LogDamaged as error:
        return {**line, "error": _failure("log_damaged", error)}
    except OSError as error:
        return {**line, "error": {"kind": "unreadable", "message": f"{current.path}: {error.strerror or error}"}}
    meta = summary.meta
    shown = turns(records, context.history_mode, subagent_start=meta.subagent_start)
    recorded = context.recorded
    return {
        **line,
        "parent_id": meta.parent_id,
        "forked_from": meta.forked_from,
        "history_mode": context.history_mode,
        "preview": summary.preview,
        "context": context.request_items(openai=False),
        "turns": [_turn_line(turn) for turn in shown],
        "skipped": [_skipped_line(record) for record in records if isinstance(record, Skipped)],
        "cwd": recorded.cwd,
        "model": recorded.model,
        "provider": recorded.provider,
        "sandbox": recorded.sandbox,
        "approval": recorded.approval,
        "window": context.window,
        "created_at": meta.created_at,
        "cli_version": meta.cli_version,
        "source": meta.source,
        "branch": meta.branch,
    }


def _turn_line(turn: Any) -> dict[str, Any]:
    return dict(msgspec.to_builtins(turn))


def _skipped_line(skipped: Skipped) -> dict[str, Any]:
    return {"line": skipped.number, "why": skipped.why}


def _failure(kind: str, error: ClewError) -> dict[str, Any]:
    return {"kind": kind, "message": error.message}


def _names(home: Home) -> dict[str, str | None]:
    """The current names: the newest row of each thread, read from the index file; an empty name is none."""
    names: dict[str, str | None] = {}
    try:
        data = home.session_index.read_bytes()
    except OSError:
        return names
    for raw in data.splitlines():
        row = object_from(raw)
        thread_id = text(row.get("id")) if row else None
        if row is not None and thread_id is not None:
            names[canonical_id(thread_id) or thread_id] = (text(row.get("thread_name")) or "").strip() or None
    return names


def main(arguments: Sequence[str] | None = None) -> int:
    """The command by itself: `python -m clew.cli.inspect inspect --codex-home DIR (--all | ID) --jsonl`."""
    parser = argparse.ArgumentParser(prog="clew", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("command", choices=["inspect"])
    parser.add_argument("thread", nargs="?", help="thread id")
    parser.add_argument("--codex-home", type=Path, required=True)
    parser.add_argument("--all", action="store_true", dest="every")
    parser.add_argument("--jsonl", action="store_true")
    options = parser.parse_args(arguments)
    if options.every == (options.thread is not None):
        parser.error("name a thread, or say --all")
    return inspect_home(options.codex_home, options.thread, sys.stdout)


if __name__ == "__main__":
    sys.exit(main())
