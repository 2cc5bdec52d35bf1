"""Writing `saved_sessions.json`, in which one fork of Codex keeps the names of threads.

The file is written whole and put in place in one step. What this version does not know in it stays as it is.
"""

from __future__ import annotations

import contextlib
import errno
import json
from pathlib import Path
from typing import Any, cast

import msgspec

from clew.errors import DiskFull, LogDamaged, SyncFailed
from clew.rollout.failpoints import FailPoints
from clew.rollout.layout import Home
from clew.rollout.name_index import SavedSession

__all__ = ["check_saved_sessions", "forget_saved_session", "put_saved_session"]

Json = dict[str, Any]


def check_saved_sessions(home: Home) -> None:
    """Raise `LogDamaged` when the file is there and cannot be read: it must not be written over."""
    _read(home)


def put_saved_session(home: Home, entry: SavedSession, fail: FailPoints | None = None) -> None:
    """Put an entry in the place of the one of its name; durable when this returns. The caller keeps other programs of
    ours from doing the same. Raises `LogDamaged`, `DiskFull`, `SyncFailed`."""
    whole = _read(home)
    entries = _entries(whole)
    known = entries.get(entry.name)
    told = {key: value for key, value in msgspec.to_builtins(entry).items() if value is not None}
    entries[entry.name] = {**(cast("Json", known) if isinstance(known, dict) else {}), **told}
    _write(home, whole, fail or FailPoints())


def forget_saved_session(home: Home, name: str, fail: FailPoints | None = None) -> None:
    """Take the entry of a name away, if there is one. Raises as `put_saved_session` does."""
    whole = _read(home)
    if _entries(whole).pop(name, None) is not None:
        _write(home, whole, fail or FailPoints())


def _path(home: Home) -> Path:
    return home.path / "saved_sessions.json"


def _read(home: Home) -> Json:
    path = _path(home)
    try:
        with contextlib.closing(home.fs.open_read(path)) as file:
            data = file.read_at(0, file.size())
    except FileNotFoundError:
        return {"entries": {}}
    try:
        whole: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise LogDamaged(path, 0, f"not JSON: {error}") from error
    if not isinstance(whole, dict) or not isinstance(cast("Json", whole).get("entries", {}), dict):
        raise LogDamaged(path, 0, "no object of entries in it")
    return cast("Json", whole)


def _entries(whole: Json) -> Json:
    return whole.setdefault("entries", {})


def _write(home: Home, whole: Json, fail: FailPoints) -> None:
    fs, path = home.fs, _path(home)
    whole["entries"] = dict(sorted(_entries(whole).items()))
    data = json.dumps(whole, indent=2, ensure_ascii=False).encode(errors="replace")
    temporary = path.with_name(f"{path.name}.tmp")
    try:
        with contextlib.suppress(FileNotFoundError):
            fs.unlink(temporary)
        with contextlib.closing(fs.open_append(temporary, exclusive=True)) as file:
            fail.hit("before_write")
            file.write(data)
            fail.hit("before_sync")
            file.sync()
            fail.hit("after_sync")
        fs.replace(temporary, path)
        fail.hit("after_rename")
        fs.sync_folder(path.parent)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DiskFull(path) from error
        raise SyncFailed(path, error.strerror or str(error)) from error
