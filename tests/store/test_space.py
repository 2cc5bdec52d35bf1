"""Where the bytes of a home are: every byte once, under what it is for, in files, on the disk and as text."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import msgspec
import pytest

from clew.errors import ThreadNotFound
from clew.rollout import Home, RealFileSystem
from clew.store.places import walk
from clew.store.space import CauseSpace, PlaceSpace, Saving, Space, space_of
from clew.testing import Call, ThreadBuilder
from clew.testing.builders import BEGINNING
from clew.testing.disk import MemoryFileSystem
from clew.testing.homes import write_every_shape

DAY = 86_400
PICTURE = "data:image/png;base64," + "iVBOR" * 2000


class Later:
    """A clock so many days after the builders' threads began."""

    def __init__(self, days: float = 1) -> None:
        self._days = days

    def now(self) -> float:
        return BEGINNING + self._days * DAY

    def monotonic(self) -> float:
        return self.now()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(RealFileSystem(), tmp_path / "codex")


@pytest.fixture
def clew_home(tmp_path: Path) -> Path:
    folder = tmp_path / "clew"
    folder.mkdir()
    return folder


def causes(space: Space) -> dict[str, int]:
    return {cause.cause: cause.text for cause in space.causes}


def places(space: Space) -> dict[str, tuple[int, int]]:
    return {place.kind: (place.files, place.size) for place in space.places}


def test_an_empty_home_has_nothing(home: Home, clew_home: Path) -> None:
    assert space_of(home, clew_home, clock=Later()) == Space(
        count=0, size=0, disk=0, text=0, causes=(), kinds=(), sub_agents=PlaceSpace(kind="sub_agents"), threads=()
    )


def test_sizes_of_a_thread_are_length_disk_and_text(home: Home, clew_home: Path) -> None:
    thread = ThreadBuilder("0.142").turn("Hello?", "Hello." * 500)
    path = thread.write(home, compressed=True)
    packed = path.with_name(path.name + ".zst")

    space = space_of(home, clew_home, [thread.id], clock=Later())

    status = packed.stat()
    [found] = space.threads
    assert (found.size, found.disk, found.text) == (status.st_size, status.st_blocks * 512, len(thread.data))
    assert (space.size, space.disk, space.text) == (found.size, found.disk, found.text)
    assert sum(cause.text for cause in space.causes) == space.text
    assert abs(sum(cause.size for cause in space.causes) - space.size) <= len(space.causes)
    [file] = found.files
    assert (file.path, file.role, file.compressed) == (str(packed), "current", True)


def test_pictures_and_outputs_and_copies_are_told_apart(home: Home, clew_home: Path) -> None:
    shown = Call("view", output=[{"type": "input_image", "image_url": PICTURE}], name="view_image")
    source = ThreadBuilder("0.142").turn("Look?", "Seen.", calls=[shown, Call("ls", output="x" * 5000)])
    source.write(home)
    child = source.fork().turn("And now?", "Now.")
    child.write(home)

    alone = causes(space_of(home, clew_home, [source.id], clock=Later()))
    copied = causes(space_of(home, clew_home, [child.id], clock=Later()))

    assert alone["images"] == len(PICTURE)
    assert 5000 < alone["tool_output"] < 6000
    assert "copies" not in alone
    assert len(source.data) - 1000 < copied["copies"] < len(source.data) + 1000
    assert "images" not in copied


def test_segments_and_doubles_are_files_of_their_thread(home: Home, clew_home: Path) -> None:
    thread = ThreadBuilder("0.169").turn("First?").turn("Second?").revert(1).turn("Third?")
    path = thread.write(home)
    (home.path / "sessions" / "elsewhere").mkdir()
    double = Path(shutil.copy2(path, home.path / "sessions" / "elsewhere" / path.name))

    space = space_of(home, clew_home, clock=Later())

    assert [(file.role, Path(file.path)) for file in space.threads[0].files] == [
        ("segment", next(one for one in path.parent.iterdir() if one != path)),
        ("current", path),
        ("double", double),
    ]
    assert space.count == 1


def test_kinds_part_the_files_and_sub_agents_are_told(home: Home, clew_home: Path) -> None:
    parent = ThreadBuilder("0.142", seed=1).turn("Hello?")
    parent.write(home)
    ThreadBuilder("0.142", seed=2, meta={"parent_thread_id": parent.id}).turn("Help?").write(home, compressed=True)
    ThreadBuilder("0.142", seed=3, source={"subagent": "review"}).turn("Review?").write(home, archived=True)

    space = space_of(home, clew_home, clock=Later())

    assert {kind.kind: kind.files for kind in space.kinds} == {
        "active plain": 1,
        "active compressed": 1,
        "archived plain": 1,
    }
    assert sum(kind.size for kind in space.kinds) == space.size
    assert (space.sub_agents.files, space.sub_agents.size) == (2, space.size - len(parent.data))


def test_everything_that_lies_in_the_homes_has_a_place(home: Home, clew_home: Path) -> None:
    path = ThreadBuilder("0.142").turn("Hello?").write(home)
    laid = {
        path.with_name(path.name + ".zst"): "leftovers",
        path.with_name(path.name + ".create.1.0.tmp"): "leftovers",
        path.with_name("notes.txt"): "other",
        home.path / "state_5.sqlite-wal": "databases",
        home.path / "db-backups" / "sqlite-1-0" / "state_5.sqlite": "databases",
        home.path / "thread-writer-locks" / "x.lock": "locks",
        home.path / ".clew-trash" / "a": "trash",
        home.path / "session_index.jsonl": "marks",
        home.path / "config.toml": "other",
        home.path / "log" / "deep" / "codex.log": "other",
        clew_home / "trash" / "a": "trash",
        clew_home / "trash.jsonl": "trash",
        clew_home / "backups" / "b" / "manifest.json": "backups",
        clew_home / "index.sqlite3": "index",
        clew_home / "index.sqlite3.damaged-1-2": "index",
        clew_home / "cache" / "c": "cache",
        clew_home / "owners" / "o": "locks",
        clew_home / "shelf.jsonl": "marks",
        clew_home / "config.toml": "other",
    }
    for number, place in enumerate(laid, 1):
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(b"x" * number)
    outside = home.path.parent / "outside"
    outside.write_bytes(b"x" * 10_000)
    (home.path / "link").symlink_to(outside)

    lying = {one.path: (one.kind, one.size) for one in walk(home, clew_home, {path})}

    assert lying == {path: ("threads", path.stat().st_size)} | {
        place: (kind, place.stat().st_size) for place, kind in laid.items()
    }
    space = space_of(home, clew_home, clock=Later())
    sums: dict[str, tuple[int, int]] = {}
    for number, kind in enumerate(laid.values(), 1):
        files, size = sums.get(kind, (0, 0))
        sums[kind] = files + 1, size + number
    assert places(space) == sums


def test_a_home_within_the_other_is_not_counted_twice(home: Home) -> None:
    ThreadBuilder("0.142").turn("Hello?").write(home)
    inside = home.path / "clew"
    inside.mkdir()
    (inside / "shelf.jsonl").write_bytes(b"x")

    assert places(space_of(home, inside, clock=Later())) == {"marks": (1, 1)}


def test_savings_say_what_to_run(home: Home, clew_home: Path) -> None:
    old = ThreadBuilder("0.142", seed=1).turn("Hello?", "All the same words. " * 20_000)
    path = old.write(home)
    ThreadBuilder("0.142", seed=2, start=BEGINNING + 29 * DAY).turn("Hello?", "Fresh. " * 20_000).write(home)
    for place in (clew_home / "trash" / "a", clew_home / "backups" / "b", clew_home / "cache" / "c"):
        place.parent.mkdir()
        place.write_bytes(b"x" * 100_000)
    forgotten = path.with_name("rollout-compress-999999999-2.tmp")
    forgotten.write_bytes(b"x" * 50_000)
    os.utime(forgotten, (BEGINNING, BEGINNING))
    (home.path / "sessions" / "elsewhere").mkdir()
    shutil.copy2(path, home.path / "sessions" / "elsewhere" / path.name)

    space = space_of(home, clew_home, clock=Later(30))

    size = len(old.data)
    assert space.ratio is not None
    compressing, *others = sorted(space.savings, key=lambda saving: not saving.estimated)
    assert compressing == Saving(
        what="compress threads that did not change for 7 days",
        size=round(size - size / space.ratio),
        command="clew compress --all",
        estimated=True,
    )
    assert {saving.command: saving.size for saving in others} == {
        "clew check": size,
        "clew trash empty": 100_000,
        f"rm -r {clew_home / 'backups'}": 100_000,
        f"rm -r {clew_home / 'cache'}": 100_000,
        "clew compress --all": 50_000,
    }


def test_of_named_threads_only_what_concerns_them_is_told(home: Home, clew_home: Path) -> None:
    first = ThreadBuilder("0.142", seed=1).turn("Hello?", "Words. " * 20_000)
    second = ThreadBuilder("0.142", seed=2).turn("Hello?", "Words. " * 10_000)
    for thread in (first, second):
        thread.write(home)
    (clew_home / "trash").mkdir()
    (clew_home / "trash" / "a").write_bytes(b"x" * 100_000)

    space = space_of(home, clew_home, [second.id], clock=Later(30))

    assert [thread.id for thread in space.threads] == [second.id]
    assert (space.size, space.places) == (len(second.data), ())
    assert [saving.command for saving in space.savings] == [f"clew compress {second.id}"]


def test_a_thread_that_is_not_there_is_named(home: Home, clew_home: Path) -> None:
    with pytest.raises(ThreadNotFound):
        space_of(home, clew_home, ["01a1f853-89ad-7dd1-9931-b57fb7397706"], clock=Later())


def test_the_estimate_comes_near_to_what_compressing_gives(home: Home, clew_home: Path) -> None:
    import zstandard

    for number in range(6):
        thread = ThreadBuilder("0.142", seed=number)
        for turn in range(20 * (number + 1)):
            thread.turn(
                f"Question {turn}?", f"Answer {number} {turn}. " * 20, calls=[Call(f"ls {turn}", "a.txt\n" * 9)]
            )
        thread.write(home)
    space = space_of(home, clew_home, clock=Later(30))
    packed = sum(len(zstandard.ZstdCompressor(level=3).compress(file.path.read_bytes())) for file in home.files())

    [saving] = space.savings
    assert 0.9 < saving.size / (space.size - packed) < 1.1


def test_texts_of_every_shape_add_up(home: Home, clew_home: Path) -> None:
    write_every_shape(home)

    space = space_of(home, clew_home, clock=Later())

    assert sum(cause.text for cause in space.causes) == space.text
    assert sum(kind.size for kind in space.kinds) == space.size == sum(file.size for file in home.files())
    assert all(isinstance(cause, CauseSpace) and cause.text > 0 for cause in space.causes)
    assert msgspec.json.decode(msgspec.json.encode(space), type=Space) == space


def test_it_works_on_any_disk() -> None:
    fs = MemoryFileSystem()
    home = Home(fs, Path("/codex"))
    thread = ThreadBuilder("0.142").turn("Hello?")
    thread.write(home)

    space = space_of(home, Path("/clew"), clock=Later())

    assert (space.size, space.disk) == (len(thread.data), -(-len(thread.data) // 4096) * 4096)
