"""What Codex' own database says about a thread. Read, never written."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

__all__ = ["path_in_database"]


def path_in_database(codex_home: Path, thread_id: str) -> str | None:
    """The file that Codex will go on with, from its newest `state_N.sqlite`. None where there is no row for the thread,
    no database, or one that cannot be read. Blocking."""
    databases = sorted(codex_home.glob("state_*.sqlite"), key=lambda path: (len(path.name), path.name))
    if not databases:
        return None
    try:
        address = f"file:{quote(str(databases[-1]))}?mode=ro"
        with closing(sqlite3.connect(address, uri=True, timeout=1.0)) as database:
            row = database.execute("select rollout_path from threads where id = ?", (thread_id,)).fetchone()
    except sqlite3.Error:
        return None
    return str(row[0]) if row else None
