"""What every file system must do, and what the simulated one loses."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

import pytest

from clew.rollout import Entry, FileSystem, RealFileSystem
from clew.testing.disk import MemoryFileSystem

Disk = tuple[FileSystem, Path]


def write(fs: FileSystem, path: Path, data: bytes, *, sync: bool = True) -> None:
    file = fs.open_append(path)
    file.write(data)
    if sync:
        file.sync()
    file.close()


def read(fs: FileSystem, path: Path) -> bytes:
    file = fs.open_read(path)
    try:
        return file.read_at(0, file.size())
    finally:
        file.close()


def test_appends_go_to_the_end(disk: Disk) -> None:
    fs, root = disk
    write(fs, root / "a", b"one")
    write(fs, root / "a", b"two")
    file = fs.open_read(root / "a")
    assert (file.size(), file.read_at(0, 100), file.read_at(2, 2), file.read_at(6, 10)) == (6, b"onetwo", b"et", b"")
    file.close()


def test_a_missing_file_is_not_made_unless_asked(disk: Disk) -> None:
    fs, root = disk
    for attempt in (
        lambda: fs.open_append(root / "a", create=False),
        lambda: fs.open_read(root / "a"),
        lambda: fs.open_update(root / "a"),
        lambda: fs.stat(root / "a"),
        lambda: fs.unlink(root / "a"),
        lambda: fs.rename(root / "a", root / "b"),
        lambda: fs.scan(root / "a"),
        lambda: fs.open_append(root / "no" / "folder"),
    ):
        with pytest.raises(FileNotFoundError):
            attempt()
    assert list(fs.scan(root)) == []


def test_exclusive_refuses_an_existing_file(disk: Disk) -> None:
    fs, root = disk
    fs.open_append(root / "a", exclusive=True).close()
    with pytest.raises(FileExistsError):
        fs.open_append(root / "a", exclusive=True)


def test_update_writes_in_place(disk: Disk) -> None:
    fs, root = disk
    write(fs, root / "a", b"abcdef")
    file = fs.open_update(root / "a")
    file.write_at(2, b"XY")
    file.write_at(6, b"gh")
    file.close()
    assert read(fs, root / "a") == b"abXYefgh"


def test_scan_names_files_and_folders(disk: Disk) -> None:
    fs, root = disk
    fs.make_folder(root / "folder" / "deeper")
    write(fs, root / "a", b"12345")
    fs.set_mtime(root / "a", 1_700_000_000_123_000_000)
    inode = fs.stat(root / "a").identity.inode
    assert sorted(fs.scan(root)) == [Entry("a", False, 5, 1_700_000_000_123_000_000, inode), Entry("folder", True)]
    assert sorted(fs.scan(root, stats=False)) == [Entry("a", False, inode=inode), Entry("folder", True)]
    assert fs.names(root) == (["a"], ["folder"])
    assert (fs.stat(root / "folder").is_dir, fs.stat(root / "a").is_dir) == (True, False)
    fs.make_folder(root / "folder" / "deeper")  # once more does nothing


def test_make_folder_refuses_a_file_in_the_way(disk: Disk) -> None:
    fs, root = disk
    write(fs, root / "a", b"")
    with pytest.raises(OSError):
        fs.make_folder(root / "a" / "b")


def test_rename_never_overwrites_and_replace_does(disk: Disk) -> None:
    fs, root = disk
    write(fs, root / "a", b"A")
    write(fs, root / "b", b"B")
    with pytest.raises(FileExistsError):
        fs.rename(root / "a", root / "b")
    assert read(fs, root / "a") + read(fs, root / "b") == b"AB"
    fs.replace(root / "a", root / "b")
    fs.rename(root / "b", root / "c")
    assert [entry.name for entry in fs.scan(root)] == ["c"]
    assert read(fs, root / "c") == b"A"


def test_a_link_is_the_same_file(disk: Disk) -> None:
    fs, root = disk
    write(fs, root / "a", b"A")
    fs.link(root / "a", root / "b")
    assert fs.stat(root / "a").identity == fs.stat(root / "b").identity
    with pytest.raises(FileExistsError):
        fs.link(root / "a", root / "b")
    fs.unlink(root / "a")
    assert read(fs, root / "b") == b"A"


def test_identity_tells_a_replaced_file(disk: Disk) -> None:
    fs, root = disk
    write(fs, root / "a", b"A")
    open_file = fs.open_append(root / "a")
    write(fs, root / "b", b"B")
    fs.replace(root / "b", root / "a")
    assert open_file.identity() != fs.stat(root / "a").identity
    open_file.close()


def test_a_lock_is_held_by_one_open_file(disk: Disk) -> None:
    fs, root = disk
    first, second = fs.open_append(root / "lock"), fs.open_append(root / "lock")
    assert (first.try_lock(), second.try_lock(), first.try_lock()) == (True, False, True)
    first.unlock()
    assert second.try_lock()
    second.close()
    assert first.try_lock()
    first.close()


def test_a_closed_file_refuses(disk: Disk) -> None:
    fs, root = disk
    file = fs.open_append(root / "a")
    file.close()
    file.close()
    with pytest.raises(OSError):
        file.write(b"x")


def test_mode_of_new_files_and_folders_is_private(tmp_path: Path) -> None:
    fs = RealFileSystem()
    fs.make_folder(tmp_path / "a" / "b")
    write(fs, tmp_path / "a" / "b" / "c", b"")
    assert [
        stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a", tmp_path / "a" / "b", tmp_path / "a/b/c")
    ] == [
        0o700,
        0o700,
        0o600,
    ]


def test_symbolic_links_and_pipes_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "folder").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    fs = RealFileSystem()
    assert [entry.name for entry in fs.scan(tmp_path)] == ["real"]
    with pytest.raises(OSError):
        fs.open_read(tmp_path / "pipe")


def memory() -> tuple[MemoryFileSystem, Path]:
    fs = MemoryFileSystem()
    fs.make_folder(Path("/d"))
    return fs, Path("/d")


def test_a_crash_loses_what_was_not_synced() -> None:
    fs, root = memory()
    file = fs.open_append(root / "a")
    file.write(b"kept")
    file.sync()
    fs.sync_folder(root)
    file.write(b" lost")
    write(fs, root / "nameless", b"gone")
    fs.crash()
    assert [(entry.name, entry.size) for entry in fs.scan(root)] == [("a", 4)]
    with pytest.raises(OSError):
        file.write(b"dead")


def test_a_crash_undoes_unsynced_renames() -> None:
    fs, root = memory()
    write(fs, root / "a", b"A")
    fs.sync_folder(root)
    fs.rename(root / "a", root / "b")
    fs.crash()
    assert [entry.name for entry in fs.scan(root)] == ["a"]


def test_a_seeded_crash_keeps_any_part_but_all_that_was_synced() -> None:
    seen: set[bytes] = set()
    for seed in range(40):
        fs, root = memory()
        file = fs.open_append(root / "a")
        file.write(b"s" * 100)
        file.sync()
        fs.sync_folder(root)
        file.write(b"u" * 1000)
        fs.crash(seed)
        data = fs.read_bytes(root / "a")
        assert data[:100] == b"s" * 100
        assert set(data[100:]) <= {0, ord("u")}
        seen.add(data)
    assert len(seen) > 4, "torn at blocks and at other bytes"


def test_a_failed_sync_is_not_made_good_by_a_second_one() -> None:
    fs, root = memory()
    file = fs.open_append(root / "a")
    fs.sync_folder(root)
    file.write(b"lost")
    fs.fail("sync")
    with pytest.raises(OSError):
        file.sync()
    file.sync()
    assert file.read_at(0, 10) == b"lost"
    fs.crash()
    assert fs.read_bytes(root / "a") == b""


def test_the_nth_call_fails_as_told() -> None:
    fs, root = memory()
    file = fs.open_append(root / "a")
    fs.fail("write", at=2, error=errno.ENOSPC, written=2)
    file.write(b"one")
    with pytest.raises(OSError) as caught:
        file.write(b"two")
    file.write(b"!")
    assert (caught.value.errno, file.read_at(0, 10)) == (errno.ENOSPC, b"onetw!")


def test_a_full_disk_takes_what_fits() -> None:
    fs, root = memory()
    file = fs.open_append(root / "a")
    fs.free = 4
    with pytest.raises(OSError) as caught:
        file.write(b"123456")
    assert (caught.value.errno, file.size(), fs.free) == (errno.ENOSPC, 4, 0)
