"""The file-system seam: everything the rollout room asks of a disk, so that a simulated one can stand in its place.

Every call raises `OSError` as the `os` module does (`FileNotFoundError`, `FileExistsError`, …). Nothing here knows what
the bytes mean.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

__all__ = ["Entry", "File", "FileIdentity", "FileStat", "FileSystem", "Glance", "RealFileSystem", "lock_within"]

FILE_MODE = 0o600
FOLDER_MODE = 0o700
LOCK_PAUSE = 0.002
"""Seconds between two looks whether a lock is free: nobody tells when one is given back."""
LEASE_SECONDS = 5.0
"""How long a reader waits for a lease of another program."""


class FileIdentity(NamedTuple):
    """What stays the same when a file is renamed, and differs when it is replaced."""

    device: int
    inode: int


class FileStat(NamedTuple):
    """`size` in bytes, `mtime_ns` in nanoseconds since 1970, `mode` the permission bits, `disk` the bytes that the file
    takes on the disk."""

    size: int
    mtime_ns: int
    is_dir: bool
    identity: FileIdentity
    mode: int = FILE_MODE
    disk: int = 0


class Entry(NamedTuple):
    """One name in a folder. Symbolic links and special files are never listed. Without `stats`, size and time are 0."""

    name: str
    is_dir: bool
    size: int = 0
    mtime_ns: int = 0
    inode: int = 0


Glance = tuple[int, int, int, bool]
"""Size, time, inode, and whether it is a folder."""

_KIND, _FOLDER = stat.S_IFMT(0xFFFF), stat.S_IFDIR


class File(Protocol):
    """An open file."""

    @property
    def path(self) -> Path: ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer only at the end of the file."""
        ...

    def write(self, data: bytes) -> None:
        """Append all of it or raise. After an error, `size` tells how much arrived."""
        ...

    def write_at(self, offset: int, data: bytes) -> None:
        """Put bytes at an offset; only for files opened with `open_update`."""
        ...

    def sync(self) -> None:
        """Return when the content survives power loss (`fdatasync`)."""
        ...

    def size(self) -> int: ...

    def identity(self) -> FileIdentity: ...

    def try_lock(self) -> bool:
        """Take the exclusive advisory lock (BSD `flock`) of this open file, without waiting."""
        ...

    def unlock(self) -> None: ...

    def close(self) -> None:
        """Gives up the lock too. Closing twice is allowed."""
        ...


class FileSystem(Protocol):
    """Names, folders and open files."""

    def open_append(self, path: Path, *, create: bool = True, exclusive: bool = False) -> File:
        """Open for reading and appending; a new file gets mode 0600. `exclusive`: it must not exist yet."""
        ...

    def open_read(self, path: Path) -> File: ...

    def open_update(self, path: Path) -> File:
        """Open an existing file for reading and `write_at`."""
        ...

    def stat(self, path: Path) -> FileStat: ...

    def glance(self, paths: Sequence[str]) -> list[Glance | None]:
        """`stat` for hundreds of paths at once, as texts; None for each that gives none."""
        ...

    def scan(self, folder: Path, *, stats: bool = True) -> Sequence[Entry]:
        """The names in a folder, in no order. Names that vanish meanwhile are left out."""
        ...

    def names(self, folder: Path) -> tuple[list[str], list[str]]:
        """The names of the files and of the folders in a folder, in no order: as `scan` without stats, at half of its
        cost for folders of thousands."""
        ...

    def make_folder(self, folder: Path) -> None:
        """Create it with its parents (mode 0700) and make the new names durable; existing ones are left alone."""
        ...

    def sync_folder(self, folder: Path) -> None:
        """Return when the names in the folder survive power loss."""
        ...

    def rename(self, source: Path, target: Path) -> None:
        """Rename, never over an existing name (`FileExistsError`)."""
        ...

    def replace(self, source: Path, target: Path) -> None:
        """Rename over whatever is there, in one step."""
        ...

    def link(self, source: Path, target: Path) -> None:
        """A second name for the file; never over an existing one."""
        ...

    def unlink(self, path: Path) -> None: ...

    def set_mtime(self, path: Path, mtime_ns: int) -> None: ...

    def set_mode(self, path: Path, mode: int) -> None: ...


def lock_within(file: File, seconds: float) -> bool:
    """Take the advisory lock of a file, waiting so long for others; whether it was had. Raises `OSError`."""
    deadline = time.monotonic() + seconds
    while not (got := file.try_lock()) and time.monotonic() < deadline:
        time.sleep(LOCK_PAUSE)
    return got


class RealFile:
    """A file descriptor. Reads are positioned, so that several readers may share it."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor

    def read_at(self, offset: int, length: int) -> bytes:
        data = os.pread(self._open(), length, offset)
        if len(data) in (0, length):
            return data
        # A single read may come back short (2 GiB limit, network file systems): go on until the end of the file.
        parts = [data]
        done = len(data)
        while done < length and (data := os.pread(self._open(), length - done, offset + done)):
            parts.append(data)
            done += len(data)
        return b"".join(parts)

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = os.write(self._open(), rest)
            if written == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            rest = rest[written:]

    def write_at(self, offset: int, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = os.pwrite(self._open(), rest, offset)
            if written == 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
            rest, offset = rest[written:], offset + written

    def sync(self) -> None:
        _sync(self._open())

    def size(self) -> int:
        return os.fstat(self._open()).st_size

    def identity(self) -> FileIdentity:
        status = os.fstat(self._open())
        return FileIdentity(status.st_dev, status.st_ino)

    def try_lock(self) -> bool:
        try:
            fcntl.flock(self._open(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(self) -> None:
        fcntl.flock(self._open(), fcntl.LOCK_UN)

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _open(self) -> int:
        if self._descriptor < 0:
            raise OSError(errno.EBADF, "file is closed", str(self.path))
        return self._descriptor


class RealFileSystem:
    """The machine's own file system."""

    def open_append(self, path: Path, *, create: bool = True, exclusive: bool = False) -> File:
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        if create or exclusive:
            flags |= os.O_CREAT
        if exclusive:
            flags |= os.O_EXCL
        return RealFile(path, os.open(path, flags, FILE_MODE))

    def open_read(self, path: Path) -> File:
        # O_NONBLOCK: a named pipe in the place of a file must not hang the reader.
        descriptor = _open_at_once(path)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return RealFile(path, descriptor)

    def open_update(self, path: Path) -> File:
        return RealFile(path, os.open(path, os.O_RDWR | os.O_CLOEXEC))

    def stat(self, path: Path) -> FileStat:
        status = path.stat()
        return FileStat(
            status.st_size,
            status.st_mtime_ns,
            stat.S_ISDIR(status.st_mode),
            FileIdentity(status.st_dev, status.st_ino),
            stat.S_IMODE(status.st_mode),
            status.st_blocks * 512,
        )

    def glance(self, paths: Sequence[str]) -> list[Glance | None]:
        found: list[Glance | None] = []
        look, add = os.stat, found.append  # the time of an answer is spent here
        for path in paths:
            try:
                status = look(path)
            except (OSError, ValueError):
                add(None)
            else:
                add((status.st_size, status.st_mtime_ns, status.st_ino, status.st_mode & _KIND == _FOLDER))
        return found

    def scan(self, folder: Path, *, stats: bool = True) -> Sequence[Entry]:
        found: list[Entry] = []
        with os.scandir(folder) as names:
            for name in names:
                if name.is_dir(follow_symlinks=False):
                    found.append(Entry(name.name, True))
                elif name.is_file(follow_symlinks=False):
                    if not stats:
                        found.append(Entry(name.name, False, inode=name.inode()))
                        continue
                    with contextlib.suppress(FileNotFoundError):
                        status = name.stat(follow_symlinks=False)
                        found.append(Entry(name.name, False, status.st_size, status.st_mtime_ns, status.st_ino))
        return found

    def names(self, folder: Path) -> tuple[list[str], list[str]]:
        files: list[str] = []
        folders: list[str] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_file(follow_symlinks=False):
                    files.append(entry.name)
                elif entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
        return files, folders

    def make_folder(self, folder: Path) -> None:
        missing: list[Path] = []
        at = folder
        while not at.is_dir():
            missing.append(at)
            if at.parent == at:
                break
            at = at.parent
        for path in reversed(missing):
            # Someone else may make it at the same moment.
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=FOLDER_MODE)
            if not path.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
            self.sync_folder(path.parent)

    def sync_folder(self, folder: Path) -> None:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Some file systems (network, FUSE) cannot sync a folder; their names are as durable as they get.
            if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS):
                raise
        finally:
            os.close(descriptor)

    def rename(self, source: Path, target: Path) -> None:
        try:
            os.link(source, target, follow_symlinks=False)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
                raise
            # No hard links here: the check and the rename are two steps, which is the best such a disk can do.
            if target.exists():
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
            source.rename(target)
        else:
            source.unlink()

    def replace(self, source: Path, target: Path) -> None:
        source.replace(target)

    def link(self, source: Path, target: Path) -> None:
        os.link(source, target, follow_symlinks=False)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def set_mtime(self, path: Path, mtime_ns: int) -> None:
        os.utime(path, ns=(mtime_ns, mtime_ns))

    def set_mode(self, path: Path, mode: int) -> None:
        path.chmod(mode)


def _open_at_once(path: Path) -> int:
    deadline = time.monotonic() + LEASE_SECONDS
    while True:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except BlockingIOError:
            # Another program holds a lease on it (the compressor looks for a moment whether it is open anywhere); the
            # kernel has asked it to let go.
            if time.monotonic() >= deadline:
                raise
            time.sleep(0.001)


def _sync(descriptor: int) -> None:
    if sys.platform == "darwin":
        # fsync there only hands the bytes to the drive.
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    else:
        os.fdatasync(descriptor)
