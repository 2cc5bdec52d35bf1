"""Changing files so that it can be undone: every original is kept, new content appears whole or not at all.

    $CLEW_HOME/backups/20260701T120000.123Z-renumber/
        manifest.json      what was there before, what is there now, and how far it got
        0-rollout-….jsonl  the originals

The manifest is durable before the first file changes. A crash between two files is told by its state `started`; undoing
it puts every file back, whichever of them had changed.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from clew.clock import Clock
from clew.errors import BadRequest, ClewError, LogReplaced, Unsupported
from clew.rollout import FailPoints, File, FileStat, FileSystem
from clew.store.findings import Finding, finding

__all__ = ["Backup", "Change", "Content", "Kept", "Sink", "backups", "commit", "read_backup", "undo", "unfinished"]

BLOCK = 1 << 20
MANIFEST = "manifest.json"

Sink = Callable[[bytes], Any]
"""Takes the next bytes of a file."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is to become of one file, in words (`what`) and as its new content; `write` None: it goes away."""

    path: Path
    what: str
    write: Callable[[Sink], None] | None


class Content(msgspec.Struct, frozen=True):
    """What a file holds: bytes and their SHA-256 in hexadecimal digits."""

    size: int
    sha256: str


class Kept(msgspec.Struct, frozen=True, kw_only=True):
    """One file of a backup. `before` None: it was not there; `after` None: it was removed. `original` is the name of
    its copy in the backup. Times are nanoseconds since 1970."""

    path: str
    what: str
    before: Content | None
    after: Content | None
    original: str | None = None
    mtime_ns: int = 0
    mode: int = 0o600


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """A manifest. `started`: not all files may have changed; `failed`: none has; `undone`: all are as before."""

    stamp: str
    repair: str
    thread_ids: tuple[str, ...]
    state: Literal["started", "done", "failed", "undone"]
    files: tuple[Kept, ...]

    @property
    def name(self) -> str:
        """The backup's folder."""
        return f"{self.stamp}-{self.repair}"


def commit(
    fs: FileSystem,
    clew_home: Path,
    repair: str,
    changes: Sequence[Change],
    *,
    thread_ids: Sequence[str] = (),
    clock: Clock,
    fail: FailPoints | None = None,
) -> Backup:
    """Keep the originals, then make the changes; the caller holds the locks.

    A file that cannot be written leaves everything as it was and raises `OSError`. Raises `LogReplaced` when a program
    without locks wrote into a file meanwhile.
    """
    return _Work(fs, clew_home, repair, tuple(thread_ids), clock, fail or FailPoints()).run(changes)


class _Work:
    def __init__(
        self, fs: FileSystem, clew_home: Path, repair: str, thread_ids: tuple[str, ...], clock: Clock, fail: FailPoints
    ) -> None:
        self._fs = fs
        self._clew_home = clew_home
        self._fail = fail
        self._folder, stamp = self._make_folder(repair, clock)
        self._backup = Backup(stamp=stamp, repair=repair, thread_ids=thread_ids, state="started", files=())
        self._temporary: list[Path | None] = []

    def run(self, changes: Sequence[Change]) -> Backup:
        try:
            seen = [self._prepare(number, change) for number, change in enumerate(changes)]
            self._write_manifest("started")
            for kept, status in zip(self._backup.files, seen, strict=True):
                self._check_same(kept, status)
        except Exception:
            self._give_up()
            raise
        try:
            for kept, temporary in zip(self._backup.files, self._temporary, strict=True):
                _switch(self._fs, kept, temporary, self._fail)
        except Exception:
            with contextlib.suppress(Exception):  # the manifest says how far it got
                undo(self._fs, self._clew_home, self._backup.name)
            self._drop_temporary()
            raise
        self._write_manifest("done")
        return self._backup

    def _make_folder(self, repair: str, clock: Clock) -> tuple[Path, str]:
        moment = datetime.fromtimestamp(clock.now(), UTC)
        base = f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03d}"
        taken = {name.partition("-")[0] for name in _names(self._fs, self._clew_home / "backups")}
        stamp = f"{base}Z"
        for number in range(2, 10_000):
            if stamp not in taken:
                break
            stamp = f"{base}.{number}Z"
        folder = self._clew_home / "backups" / f"{stamp}-{repair}"
        self._fs.make_folder(folder)
        return folder, stamp

    def _prepare(self, number: int, change: Change) -> FileStat | None:
        """Copy the original and write the new content beside it; both are durable afterwards."""
        status = _status(self._fs, change.path)
        before, original = None, None
        if status is not None:
            original = f"{number}-{change.path.name}"
            with contextlib.closing(self._fs.open_read(change.path)) as source:
                before = _write_file(self._fs, self._folder / original, lambda put: _copy(source, put), self._fail)
        after, temporary = None, None
        mode = status.mode if status is not None else 0o600
        if change.write is not None:
            temporary = change.path.with_name(f"{change.path.name}.repair.{os.getpid()}.tmp")
            self._temporary.append(temporary)
            self._fs.make_folder(change.path.parent)
            _drop_left(self._fs, change.path)
            after = _write_file(self._fs, temporary, change.write, self._fail)
            self._fs.set_mode(temporary, mode)
            if status is not None:
                # A repair is no activity: what is listed by its age stays where it is.
                self._fs.set_mtime(temporary, status.mtime_ns)
        else:
            self._temporary.append(None)
        kept = Kept(
            path=str(change.path),
            what=change.what,
            before=before,
            after=after,
            original=original,
            mtime_ns=status.mtime_ns if status is not None else 0,
            mode=mode,
        )
        self._backup = msgspec.structs.replace(self._backup, files=(*self._backup.files, kept))
        return status

    def _check_same(self, kept: Kept, status: FileStat | None) -> None:
        now = _status(self._fs, Path(kept.path))
        if now != status or (kept.before is not None and status is not None and kept.before.size != status.size):
            raise LogReplaced(kept.path)

    def _give_up(self) -> None:
        self._drop_temporary()
        with contextlib.suppress(OSError):
            self._write_manifest("failed")

    def _drop_temporary(self) -> None:
        for path in self._temporary:
            if path is not None:
                with contextlib.suppress(OSError):
                    self._fs.unlink(path)

    def _write_manifest(self, state: Literal["started", "done", "failed"]) -> None:
        self._backup = msgspec.structs.replace(self._backup, state=state)
        _write_manifest(self._fs, self._folder, self._backup, self._fail)


def undo(fs: FileSystem, clew_home: Path, reference: str, *, fail: FailPoints | None = None) -> Backup:
    """Put the originals of a backup back; its stamp or its folder's name say which. The caller holds the locks.

    Nothing is changed unless every file is as it was before the repair, or as the repair left it. Raises `BadRequest`
    for no such backup, `Unsupported` with the reason. Doing it twice does no harm.
    """
    fail = fail or FailPoints()
    backup = read_backup(fs, clew_home, reference)
    folder = clew_home / "backups" / backup.name
    if backup.state in ("failed", "undone"):
        return backup
    waiting = [kept for kept in backup.files if _changed(fs, kept, backup)]
    for kept in waiting:
        if kept.original is not None and _content(fs, folder / kept.original) != kept.before:
            raise Unsupported(f"undo of {backup.name}", f"its copy {folder / kept.original} is not what was kept")
    for kept in backup.files:
        _drop_left(fs, Path(kept.path))
    # The other way round: what was made first goes last, so that nothing is ever in no file at all.
    for kept in reversed(waiting):
        path = Path(kept.path)
        temporary = None
        if kept.original is not None:
            temporary = path.with_name(f"{path.name}.undo.{os.getpid()}.tmp")
            fs.make_folder(path.parent)
            with contextlib.closing(fs.open_read(folder / kept.original)) as source:
                _write_file(fs, temporary, lambda put, source=source: _copy(source, put), fail)
            fs.set_mode(temporary, kept.mode)
            fs.set_mtime(temporary, kept.mtime_ns)
        back = Kept(path=kept.path, what="", before=kept.after, after=kept.before)
        _switch(fs, back, temporary, fail)
    undone = msgspec.structs.replace(backup, state="undone")
    _write_manifest(fs, folder, undone, fail)
    return undone


def _changed(fs: FileSystem, kept: Kept, backup: Backup) -> bool:
    """Whether a file is as the repair left it; False: as before. Raises `Unsupported` when it is neither."""
    now = _content(fs, Path(kept.path))
    if now == kept.before:
        return False
    if now == kept.after:
        return True
    if now is None:
        why = f"{kept.path} is gone"
    elif kept.after is None:
        why = f"{kept.path} is there again"
    elif now.size > kept.after.size and _content(fs, Path(kept.path), kept.after.size) == kept.after:
        why = f"{kept.path} has grown by {now.size - kept.after.size} bytes since; they would be lost"
    else:
        why = f"{kept.path} was changed since"
    raise Unsupported(f"undo of {backup.name}", why)


def backups(fs: FileSystem, clew_home: Path) -> Iterator[Backup]:
    """All backups that can be read, oldest first."""
    for name in sorted(_names(fs, clew_home / "backups")):
        with contextlib.suppress(ClewError, OSError):
            yield read_backup(fs, clew_home, name)


def read_backup(fs: FileSystem, clew_home: Path, reference: str) -> Backup:
    """The manifest of a backup. Raises `BadRequest` when there is none of this stamp, or it cannot be read."""
    for name in _names(fs, clew_home / "backups"):
        if reference in (name, name.partition("-")[0]):
            try:
                with contextlib.closing(fs.open_read(clew_home / "backups" / name / MANIFEST)) as file:
                    return msgspec.json.decode(file.read_at(0, file.size()), type=Backup)
            except FileNotFoundError:
                raise BadRequest("stamp", f"backup {name} was not finished; nothing was changed then") from None
            except (msgspec.DecodeError, ValueError) as error:
                raise BadRequest("stamp", f"the manifest of backup {name} cannot be read: {error}") from error
    raise BadRequest("stamp", f"there is no backup {reference}; `clew repair --list` shows them")


def unfinished(fs: FileSystem, clew_home: Path) -> Iterator[Finding]:
    """Repairs that were ended between two files."""
    for backup in backups(fs, clew_home):
        if backup.state == "started":
            why = f"{backup.repair} was ended in its work; `clew repair undo {backup.stamp}` puts everything back"
            thread_id = backup.thread_ids[0] if len(backup.thread_ids) == 1 else None
            path = str(clew_home / "backups" / backup.name)
            yield finding("repair-unfinished", why, thread_id=thread_id, path=path)


# -- files


def _switch(fs: FileSystem, kept: Kept, temporary: Path | None, fail: FailPoints) -> None:
    """Give a file its new content, or take it away; durable when this returns."""
    path = Path(kept.path)
    if temporary is None:
        fail.hit("before_unlink")
        with contextlib.suppress(FileNotFoundError):
            fs.unlink(path)
    else:
        fail.hit("before_link")
        if kept.before is None:
            fs.rename(temporary, path)
        else:
            fs.replace(temporary, path)
        fail.hit("after_rename")
    fail.hit("before_folder_sync")
    with contextlib.suppress(FileNotFoundError):
        fs.sync_folder(path.parent)
    fail.hit("after_folder_sync")


def _drop_left(fs: FileSystem, path: Path) -> None:
    """Remove temporary files that a killed repair of this file left; whoever holds its lock is alone with it."""
    try:
        names = [entry.name for entry in fs.scan(path.parent, stats=False)]
    except OSError:
        return
    for name in names:
        if name.startswith((f"{path.name}.repair.", f"{path.name}.undo.")) and name.endswith(".tmp"):
            with contextlib.suppress(FileNotFoundError):
                fs.unlink(path.with_name(name))


def _write_file(fs: FileSystem, path: Path, write: Callable[[Sink], None], fail: FailPoints) -> Content:
    """A new file with what `write` gives; its content is durable when this returns, its name not yet."""
    digest = hashlib.sha256()
    file = fs.open_append(path, exclusive=True)
    try:
        fail.hit("after_create")

        def put(data: bytes) -> None:
            fail.hit("before_write")
            file.write(data)
            digest.update(data)
            fail.hit("after_write")

        write(put)
        fail.hit("before_sync")
        file.sync()
        fail.hit("after_sync")
        return Content(file.size(), digest.hexdigest())
    finally:
        file.close()


def _write_manifest(fs: FileSystem, folder: Path, backup: Backup, fail: FailPoints) -> None:
    data = msgspec.json.format(msgspec.json.encode(backup), indent=2) + b"\n"
    temporary = folder / f"{MANIFEST}.{os.getpid()}.tmp"
    with contextlib.suppress(FileNotFoundError):
        fs.unlink(temporary)
    _write_file(fs, temporary, lambda put: put(data), fail)
    fs.replace(temporary, folder / MANIFEST)
    fs.sync_folder(folder)


def _copy(source: File, put: Sink, end: int | None = None) -> None:
    at = 0
    while data := source.read_at(at, BLOCK if end is None else min(BLOCK, end - at)):
        put(data)
        at += len(data)


def _content(fs: FileSystem, path: Path, end: int | None = None) -> Content | None:
    """What a file holds (its first `end` bytes), None if there is none."""
    try:
        file = fs.open_read(path)
    except FileNotFoundError:
        return None
    digest = hashlib.sha256()
    with contextlib.closing(file):
        _copy(file, digest.update, end)
        return Content(file.size() if end is None else end, digest.hexdigest())


def _status(fs: FileSystem, path: Path) -> FileStat | None:
    try:
        return fs.stat(path)
    except FileNotFoundError:
        return None


def _names(fs: FileSystem, folder: Path) -> list[str]:
    try:
        return [entry.name for entry in fs.scan(folder, stats=False) if entry.is_dir]
    except OSError:
        return []
