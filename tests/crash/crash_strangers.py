"""What programs without locks, and people, do to the files of a home."""

from __future__ import annotations

from typing import TYPE_CHECKING

import zstandard
from crash_model import Expected, number_of
from crash_story import meta_of, said

from clew.clock import utc_stamp
from clew.rollout import Line, Record, encode_line

if TYPE_CHECKING:
    from crash_world import World

__all__ = ["append", "compress", "cut", "move", "replace", "revert"]


def append(world: World, thread: Expected, *, torn: bool) -> None:
    """A program without locks appends a line, or the beginning of one."""
    path = world.plain(thread)
    if path is None:
        return
    world.counts["foreign"] += 1
    (entry,) = world.entries(1, world.hand())
    records = [line for line in world.file_lines(thread) if isinstance(line, Record)]
    last = next((line.ordinal for line in reversed(records) if line.ordinal is not None), -1)
    data = encode_line(
        said(entry.number),
        timestamp=utc_stamp(world.clock.now()),
        ordinal=last + 1 if thread.paginated else None,
    )
    if torn:
        data = data[: len(data) // 2]
    whole = world.fs.read_bytes(path)
    file = world.fs.open_append(path, create=False)
    file.write(data if whole.endswith(b"\n") else b"\n" + data)
    file.close()
    if not torn:
        entry.is_there("written", world.moment())
        thread.lines.append(entry)


def revert(world: World, thread: Expected, choice: int) -> None:
    """Codex goes back: a new segment that inherits a part of the current file."""
    path = world.plain(thread)
    files = world.home.find(thread.id)
    if path is None or files is None or not thread.paginated or world.is_held(thread):
        return
    places = [line for line in world.file_lines(thread) if isinstance(line, Record) and number_of(line) is not None]
    if not places:
        return
    cut = places[choice % len(places)]
    assert cut.ordinal is not None
    there = world.check_thread(thread)
    assert there is not None
    world.counts["foreign"] += 1
    place = [entry.number for entry in there].index(number_of(cut) or 0)
    file = world.fs.open_append(path, create=False)
    file.sync()
    file.close()
    world.fs.sync_folder(path.parent)
    base = {
        "thread_id": files.current.name.rollout_id,
        "end_ordinal_exclusive": cut.ordinal,
        "end_byte_offset": cut.start,
    }
    head = Line("session_meta", {**meta_of(thread).payload, "history_base": base})
    data = encode_line(head, timestamp=utc_stamp(world.clock.now()), ordinal=cut.ordinal)
    world.fs.write_bytes(world.home.new_path(thread.id, world.clock.now(), world.ids.uuid7()), data)
    world.settle_folders()
    thread.lines = there[:place]
    for entry in thread.lines:
        entry.is_there("durable", world.moment())
    thread.exists = "durable"
    thread.archived = {False}
    thread.based_on.add(thread.id)


def compress(world: World, thread: Expected) -> None:
    """Codex packs a cold file."""
    path = world.plain(thread)
    if path is None or world.is_held(thread):
        return
    world.counts["foreign"] += 1
    packed = zstandard.ZstdCompressor(level=3).compress(world.fs.read_bytes(path))
    world.fs.write_bytes(path.with_name(f"{path.name}.zst"), packed)
    world.fs.unlink(path)
    world.fs.sync_folder(path.parent)
    world.all_on_disk(thread)


def replace(world: World, thread: Expected) -> None:
    """A sync tool puts a copy in the file's place."""
    path = world.plain(thread)
    if path is None:
        return
    world.counts["foreign"] += 1
    world.fs.write_bytes(path, world.fs.read_bytes(path))
    world.break_off(thread)
    world.all_on_disk(thread)


def move(world: World, thread: Expected) -> None:
    """Somebody puts the file among the archived ones by hand."""
    path = world.plain(thread)
    files = world.home.find(thread.id)
    if path is None or files is None or len(files.segments) > 1 or len(thread.archived) > 1:
        return
    if any(entry.name == f"{path.name}.zst" for entry in world.fs.scan(path.parent)):
        return  # a packing that was cut off left both forms; the other one would stay
    world.counts["foreign"] += 1
    target = world.home.archived_sessions / path.name
    world.fs.make_folder(target.parent)
    world.fs.replace(path, target)
    world.settle_folders()
    thread.archived = {True}
    world.break_off(thread)


def cut(world: World, thread: Expected, choice: int) -> None:
    """Somebody shortens the file."""
    path = world.plain(thread)
    if path is None or any(thread.id in other.based_on for other in world.threads.values()):
        return
    lines = world.file_lines(thread)
    if not lines:
        return
    world.counts["foreign"] += 1
    size = len(world.fs.read_bytes(path))
    world.fs.cut(path, max(lines[0].end, size - 1 - choice % 200))
    world.break_off(thread)
    thread.frozen.clear()
    kept = {number_of(line) for line in world.watcher.read(thread.id) if isinstance(line, Record)}
    thread.lines = [entry for entry in thread.lines if entry.number in kept or entry.sure == "maybe"]
    if not world.fs.read_bytes(path).endswith(b"\n"):
        # Its last line may be whole, but without an end whatever comes behind may become a part of it.
        last = [number_of(line) for line in world.file_lines(thread) if isinstance(line, Record)][-1:]
        for entry in thread.lines:
            if entry.number in last:
                entry.sure = "maybe"
