"""Searching by looking at files: what counts as a hit, in which order, and what happens when things go wrong."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest
import zstandard
from search_home import ScanHome, exact, pattern, respelled

from clew.errors import BadRequest, SearchStopped
from clew.rollout import RealFileSystem
from clew.rollout.filesystem import File
from clew.store.queries import SearchHit, SearchPage, SearchProgress, SearchQuery
from clew.store.search import find_ripgrep, matching
from clew.testing import Call, MemoryFileSystem, ThreadBuilder
from clew.testing.builders import BEGINNING, ERAS, Era

_PACKED = [(False, False), (False, True), (True, False), (True, True)]
"""Archived, compressed."""


@pytest.fixture
def home(tmp_path: Path) -> ScanHome:
    return ScanHome(tmp_path)


def _thread(number: int = 0, era: Era = "0.169") -> ThreadBuilder:
    return ThreadBuilder(era, start=BEGINNING + 3600 * number, seed=number)


def _ids(page: SearchPage) -> list[str]:
    return [hit.thread.id for hit in page.hits]


# -- what counts ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("era", ERAS)
def test_each_text_counts_once_in_every_era(home: ScanHome, era: Era) -> None:
    thread = _thread(0, era).turn(
        "Where is the MINOTAUR?", "The minotaur is below.", calls=[Call("grep minotaur map", "minotaur: room 7")]
    )
    thread_id = home.add(thread)
    (hit,) = home.search(exact("minotaur")).hits
    assert (hit.thread.id, hit.where, hit.snippet, hit.marks, hit.count) == (
        thread_id,
        "user",
        "Where is the MINOTAUR?",
        ((13, 21),),
        4,
    )
    inside = home.inside(thread_id, exact("minotaur")).hits
    assert [(one.where, one.snippet) for one in inside] == [
        ("user", "Where is the MINOTAUR?"),
        ("command", "grep minotaur map"),
        ("output", "minotaur: room 7"),
        ("agent", "The minotaur is below."),
    ]


def test_plain_compressed_and_archived_threads_give_the_same_hits(home: ScanHome) -> None:
    bare: list[tuple[str, str, int, str | None]] = []
    for number, (archived, compressed) in enumerate(_PACKED):
        thread = _thread(number).turn("Fix it", 'Done: café "quoted" C:\\temp', calls=[Call("true", "a\tb\nok")])
        home.add(thread, archived=archived, compressed=compressed)
    for text in ('café "quoted" c:\\TEMP', "b\nok", "\\"):
        page = home.search(exact(text))
        bare = [(hit.where, hit.snippet, hit.count, hit.at and hit.at[14:]) for hit in page.hits]
        assert len(bare) == 4
        assert len(set(bare)) == 1, text


def test_surroundings_and_instructions_are_not_what_a_person_said(home: ScanHome) -> None:
    home.add(_thread().turn("Hello", "Hello."))
    assert home.found(exact("environment_context")) == []
    assert home.found(exact("You are a helper")) == []
    assert len(home.found(exact("hello"))) == 1


def test_roles_tools_times_and_files_narrow_a_search(home: ScanHome) -> None:
    patch = "*** Begin Patch\n*** Update File: src/maze/plan.py\n@@\n-a\n+b\n*** End Patch"
    thread = _thread().turn("Draw the maze", "Drawn.", calls=[Call("cat maze.txt", "maze walls")])
    thread.turn("Again", "The maze.", calls=[Call(name="apply_patch", custom=True, command=patch, output="Done: maze")])
    thread_id = home.add(thread)

    def where(**more: object) -> list[str]:
        return [hit.where for hit in home.inside(thread_id, exact("maze", **more)).hits]

    assert where() == ["user", "command", "output", "file", "output", "agent"]
    assert where(roles=("output", "agent")) == ["output", "output", "agent"]
    assert where(tool="apply_patch") == ["file", "output"]
    assert where(tool="exec_command") == ["command", "output"]
    hits = home.inside(thread_id, exact("maze")).hits
    assert where(since=hits[3].at) == ["file", "output", "agent"]
    assert where(until=hits[0].at) == ["user"]
    assert [hit.turn_id for hit in hits] == [thread.turn_ids[0]] * 3 + [thread.turn_ids[1]] * 3
    home.add(_thread(1).turn("The maze", "No file touched."))
    assert len(home.found(exact("maze"))) == 2
    for ending in ("plan.py", "maze/plan.py", "/plan.py", "src/maze/plan.py"):
        assert home.found(exact("draw", file=ending)) == [thread_id], ending
    for other in ("lan.py", "plan.pyc", "maze"):
        assert home.found(exact("maze", file=other)) == [], other
    with pytest.raises(BadRequest):
        home.found(exact("maze", since="yesterday"))


def test_titles_are_names_and_alone_also_first_messages(home: ScanHome) -> None:
    named, plain = home.add(_thread(0).turn("First", "One.")), home.add(_thread(1).turn("Second", "Two."))
    home.names[named] = "The Labyrinth"
    (hit,) = home.search(exact("labyrinth")).hits
    assert (hit.thread.id, hit.where, hit.snippet, hit.marks) == (named, "title", "The Labyrinth", ((4, 13),))
    assert home.found(exact("first", roles=("title",))) == []
    assert home.found(exact("labyrinth", roles=("title",))) == [named]
    assert home.found(exact("labyrinth", tool="exec_command")) == []
    assert home.found(exact("labyrinth", file="a.py")) == []
    assert plain not in home.found(exact("labyrinth"))


# -- forks ------------------------------------------------------------------------------------------------------------


def test_what_a_fork_inherits_is_found_where_it_was_written(home: ScanHome) -> None:
    source = _thread().turn("The minotaur", "Found.")
    fork = source.fork().turn("And the thread?", "Kept.")
    ids = home.add(source), home.add(fork)
    assert home.found(exact("minotaur")) == [ids[0]]
    assert home.found(exact("thread?")) == [ids[1]]
    assert [hit.where for hit in home.inside(ids[1], exact("minotaur")).hits] == ["user"]


def test_a_copy_is_shown_only_where_nothing_else_is(home: ScanHome) -> None:
    source = _thread(0, "0.142").turn("The minotaur", "Found.")
    fork = source.fork()
    again = fork.fork().turn("The minotaur lives", "Still.")
    ids = home.add(source), home.add(fork), home.add(again)
    home.forked = {ids[1]: ids[0], ids[2]: ids[1]}
    assert home.found(exact("minotaur")) == [ids[2], ids[0]]
    assert [hit.count for hit in home.search(exact("minotaur")).hits] == [1, 1]
    assert home.found(exact("found.")) == [ids[0]]
    (file,) = (one.current.path for one in home.home.threads() if one.thread_id == ids[0])
    file.unlink()
    assert home.found(exact("found.")) == [ids[1]]


def test_what_a_revert_took_back_is_not_found(home: ScanHome) -> None:
    for number, compressed in enumerate((False, True)):
        thread = (
            _thread(number).turn("Keep this", "One.").turn("The minotaur", "Two.").revert(1).turn("Better", "Three.")
        )
        home.add(thread, compressed=compressed)
    assert home.found(exact("minotaur")) == []
    assert len(home.found(exact("keep this"))) == len(home.found(exact("better"))) == 2


# -- order and pages --------------------------------------------------------------------------------------------------


def test_pages_are_in_order_and_do_not_look_twice(tmp_path: Path) -> None:
    opened: list[str] = []

    class Watched(RealFileSystem):
        def open_read(self, path: Path) -> File:
            if path.name.startswith("rollout-"):
                opened.append(path.name)
            return super().open_read(path)

    home = ScanHome(tmp_path, fs=Watched())
    ids = [
        home.add(_thread(number).turn("maze" if number % 2 else "wall", "One."), compressed=number % 3 == 0)
        for number in range(20)
    ]
    expected = [thread_id for number, thread_id in enumerate(ids) if number % 2][::-1]
    seen: list[str] = []
    cursor = None
    for page_number in range(10):
        scan = home.again() if page_number == 3 else home.scan
        page = home.search(exact("maze", limit=3, cursor=cursor), scan=scan)
        seen += _ids(page)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == expected
    # Each compressed file is opened once, each plain one that may hold it, too, whoever asked.
    assert len(opened) == len(set(opened)) == 14
    with pytest.raises(BadRequest):
        home.search(exact("maze", cursor="x"))


def test_the_cache_is_private_bounded_and_dispensable(home: ScanHome) -> None:
    for number in range(3):
        home.add(_thread(number).turn("maze", "One."))
    for number in range(20):
        assert len(home.search(exact("maze" + "?" * number, limit=1)).hits) == (number == 0)
        home.search(exact("m" + "a" * number, limit=1))
        home.search(pattern(f"maz[e{number}]", limit=1))
    kept = list(home.cache.iterdir())
    assert 0 < len(kept) <= 8
    assert {stat.S_IMODE(file.stat().st_mode) for file in kept} == {0o600}
    assert stat.S_IMODE(home.cache.stat().st_mode) == 0o700
    for file in kept:
        file.write_bytes(b"\x00 nonsense")
    assert len(home.search(exact("maze"), scan=home.again()).hits) == 3
    for file in home.cache.iterdir():
        os.utime(file, (0, 0))
    assert len(home.search(exact("maze"), scan=home.again()).hits) == 3


def test_a_thread_that_changed_is_looked_at_again(home: ScanHome) -> None:
    thread = _thread().turn("maze", "One.")
    thread_id = home.add(thread)
    assert home.found(exact("minotaur")) == []
    (file,) = (one.current.path for one in home.home.threads())
    file.unlink()
    thread.turn("minotaur", "Two.")
    home.add(thread)
    for scan in (home.scan, home.again()):
        assert _ids(home.search(exact("minotaur"), scan=scan)) == [thread_id]


def test_places_in_a_thread_come_in_pages(home: ScanHome) -> None:
    thread = _thread()
    for number in range(7):
        thread.turn(f"maze {number} maze", "One.")
    thread_id = home.add(thread)
    seen: list[tuple[str, int]] = []
    cursor = None
    while True:
        page = home.inside(thread_id, exact("maze", limit=2, cursor=cursor))
        seen += [(hit.snippet, hit.count) for hit in page.hits]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [(f"maze {number} maze", 2) for number in range(7)]


# -- what may go wrong ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["--pre=touch /tmp/clew-was-here", "-f /etc/passwd", "-e", "--", "-", "--files", "$(id)", "'; id;'", "..", "\0"],
)
def test_a_pattern_is_never_an_option(home: ScanHome, text: str) -> None:
    home.add(_thread(0).turn("Nothing here", "One"))
    said = home.add(_thread(1).turn(f"say {text} now", "One"))
    assert home.found(exact(text)) == [said]
    assert not Path("/tmp/clew-was-here").exists()


def test_names_of_folders_are_never_options(home: ScanHome) -> None:
    thread = _thread().turn("maze", "One.")
    thread_id = home.add(thread)
    (file,) = (one.current.path for one in home.home.threads())
    odd = home.home.sessions / "--pre=id\n*?[x]"
    odd.mkdir()
    file.rename(odd / file.name)
    assert home.found(exact("maze")) == [thread_id]


@pytest.mark.parametrize(
    ("expression", "why"),
    [
        ("a(b", "missing ), unterminated subpattern at position 1"),
        ("[z-a]", "bad character range z-a at position 1"),
        ("*", "nothing to repeat at position 0"),
        ("a{999999999999}", "the repetition number is too large"),
        ("", "nothing to search for"),
    ],
)
def test_an_expression_that_is_none_is_refused(home: ScanHome, expression: str, why: str) -> None:
    with pytest.raises(BadRequest, match="text: ") as refused:
        home.search(pattern(expression))
    assert why in str(refused.value)


def test_an_expression_that_takes_for_ever_is_given_up(home: ScanHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "TEXT_SECONDS", 0.2)
    home.add(_thread(0).turn("a" * 60 + "!", "One."))
    quick = home.add(_thread(1).turn("baaa", "One."))
    page = home.search(pattern("^b?(a+)+$"))
    assert _ids(page) == [quick]
    assert page.notices == ("The expression took too long for 1 texts; they were not searched.",)
    monkeypatch.setattr(matching, "ALL_SECONDS", 0.2)
    with pytest.raises(BadRequest, match="takes too long"):
        home.search(pattern("^c?(a+)+$"))


def test_a_search_that_is_stopped_ends_and_leaves_no_process(home: ScanHome) -> None:
    before = _children()  # a tracker of resources, once anything used one
    home.add(_thread(0).turn("a" * 60 + "!", "One."))
    until = time.monotonic() + 0.3
    with pytest.raises(SearchStopped):
        home.search(pattern("^b?(a+)+$"), stop=lambda: time.monotonic() > until)
    assert _children() == before
    for ripgrep in (True, False):
        with pytest.raises(SearchStopped):
            home.search(exact("minotaur"), scan=home.again() if ripgrep else home.again(None), stop=lambda: True)
    assert _children() == before


def test_ripgrep_is_killed_when_its_reader_leaves(home: ScanHome, tmp_path: Path) -> None:
    before = _children()  # a tracker of resources, once anything used one
    slow = tmp_path / "rg"
    slow.write_text("#!/bin/sh\nexec /bin/sleep 600\n")
    slow.chmod(0o700)
    home.add(_thread().turn("maze", "One."))
    until = time.monotonic() + 0.2
    with pytest.raises(SearchStopped):
        home.search(exact("maze"), scan=home.again(slow), stop=lambda: time.monotonic() > until)
    assert _children() == before


def _children() -> list[int]:
    found: list[int] = []
    for task in Path("/proc/self/task").iterdir():
        children = task / "children"
        found += [int(pid) for pid in children.read_text().split()] if children.exists() else []
    return found


@pytest.mark.parametrize(
    "script", ["exit 2", "echo nonsense; exit 7", "kill -9 $$", "echo 'regex parse error' >&2; exit 2"]
)
def test_a_ripgrep_that_fails_costs_time_only(home: ScanHome, tmp_path: Path, script: str) -> None:
    broken = tmp_path / "rg"
    broken.write_text(f"#!/bin/sh\n{script}\n")
    broken.chmod(0o700)
    ids = [home.add(_thread(number).turn("maze", "One."), compressed=bool(number)) for number in range(2)]
    page = home.search(exact("maze"), scan=home.again(broken))
    if script == "exit 2":
        assert page.hits == ()  # it may have looked at all there was
        return
    assert _ids(page) == ids[::-1]
    assert page.notices == ("ripgrep (rg) failed: files were read without it, which takes longer.",)


def test_without_ripgrep_the_same_is_found_and_told_once(home: ScanHome, tmp_path: Path) -> None:
    thread_id = home.add(_thread().turn("maze", "One."))
    for scan in (home.again(None), home.again(tmp_path / "not there")):
        page = home.search(exact("maze"), scan=scan)
        assert _ids(page) == [thread_id]
        assert len(page.notices) == 1
        assert "ripgrep" in page.notices[0]
    without = home.again(None)
    assert home.search(exact("one"), scan=without).notices != home.search(exact("two"), scan=without).notices == ()


def test_damage_costs_what_is_damaged(home: ScanHome) -> None:
    zeros = _thread(0).turn("maze", "One.").edit(lambda data: data + b"\0" * 5000 + b"\n").turn("minotaur", "Two.")
    latin = (
        _thread(1).turn("maze", "One.").raw(b'{"type":"response_item","payload":"min\xe9otaur"}\n').turn("minotaur", "")
    )
    huge = _thread(2).raw(b"x" * (3 << 20) + b"minotaur\n").turn("minotaur", "Two.")
    torn = _thread(3).turn("maze", "One.").turn("minotaur", "Two.").torn(10)
    unended = _thread(4).turn("maze", "minotaur").edit(lambda data: data.removesuffix(b"\n"))
    threads = [zeros, latin, huge, torn, unended]
    ids = [home.add(thread, compressed=number % 2 == 0) for number, thread in enumerate(threads)]
    assert home.found(exact("minotaur")) == ids[::-1]
    assert _ids(home.search(exact("minotaur"), scan=home.again(None))) == ids[::-1]


def test_a_compressed_file_that_is_cut_is_searched_as_far_as_it_goes(home: ScanHome) -> None:
    thread = _thread()
    for number in range(300):
        thread.turn(f"maze {number} {number * 7919:08}" * 20, "One.")
    thread_id = home.add(thread, compressed=True)
    (file,) = (one.current.path for one in home.home.threads())
    data = file.read_bytes()
    text = zstandard.ZstdDecompressor().decompressobj(read_across_frames=True).decompress(data)
    file.write_bytes(zstandard.compress(text)[:-2000])
    assert home.found(exact("maze 0 ")) == [thread_id]
    file.write_bytes(b"no zstd at all")
    assert home.search(exact("maze 0 ")).hits == ()


def test_a_file_that_is_packed_after_it_was_found_is_searched(home: ScanHome) -> None:
    thread = _thread().turn("maze", "One.")
    thread_id = home.add(thread)
    before = home.searched()
    (plain,) = (one.current.path for one in home.home.threads())
    home.add(thread, compressed=True)
    plain.unlink(missing_ok=True)
    assert _ids(home.scan.search(exact("maze"), lambda: before)) == [thread_id]


def test_threads_on_another_kind_of_disk_are_searched(tmp_path: Path) -> None:
    home = ScanHome(tmp_path, fs=MemoryFileSystem())
    home.home.fs.make_folder(home.home.sessions)
    ids = [home.add(_thread(number).turn("maze", "One."), compressed=bool(number)) for number in range(2)]
    assert home.found(exact("maze")) == ids[::-1]


def test_progress_ends_with_everything(home: ScanHome) -> None:
    for number in range(3):
        home.add(_thread(number).turn("maze", "One."), compressed=number == 1)
    told: list[SearchProgress] = []
    home.search(exact("minotaur"), progress=told.append)
    files = [one.files for one in told]
    assert files == sorted(set(files))
    assert (files[-1], {one.all_files for one in told}) == (3, {3})
    assert told[-1].bytes == told[-1].all_bytes > 0


def test_only_threads_with_something_in_them_are_asked_for_a_summary(home: ScanHome) -> None:
    ids = [home.add(_thread(number).turn("maze" if number == 2 else "wall", "One.")) for number in range(5)]
    assert home.found(exact("maze")) == [ids[2]]
    assert home.asked == [ids[2]]


def test_words_stand_in_one_text(home: ScanHome) -> None:
    first = home.add(_thread(0).turn("Fix the parser's off by one error", "Fixed.", calls=[Call("true", "parsers")]))
    other = home.add(_thread(1).turn("A parser", "Off by one.", calls=[Call("true", "off parser")]))

    def found(text: str) -> list[str]:
        return home.found(SearchQuery(text=text))

    assert found("PARSER") == [other, first]
    assert found("parser off") == [first]
    assert found('"off by one"') == [other, first]
    assert found('"one by off"') == found("pars") == found("arser") == []
    assert found("pars* err*") == [first]
    for nothing in ("", " ", "***", '""'):
        with pytest.raises(BadRequest):
            found(nothing)


def test_the_systems_ripgrep_comes_first(tmp_path: Path) -> None:
    own = tmp_path / "rg"
    own.write_text("")
    own.chmod(0o700)
    assert find_ripgrep({"PATH": str(tmp_path)}) == own
    assert find_ripgrep({"PATH": "/nowhere"}) == find_ripgrep({"PATH": ""}) != own


def test_texts_that_are_spelled_oddly_are_found(home: ScanHome) -> None:
    escaped = _thread(0).turn("café 😀 a/b", "One.", calls=[Call('echo "café\\n😀"', "x")])
    ids = [home.add(respelled(escaped))]
    odd = _thread(1).turn("qmazeq", "One.")
    ids.append(home.add(odd.edit(lambda data: data.replace(b"qmazeq", b"q\\u006d\\u0061zeq"))))
    assert home.found(exact("CAFÉ 😀 a/b")) == home.found(exact('"café\\n😀"')) == [ids[0]]
    assert home.found(exact("maze")) == [ids[1]]


def _hit(page: SearchPage) -> SearchHit:
    (hit,) = page.hits
    return hit


def test_a_snippet_shows_what_matched_on_one_line(home: ScanHome) -> None:
    home.add(_thread().turn("x" * 200 + "\n\n\tthe  maze\nof\tmazes " + "y" * 200, "One."))
    hit = _hit(home.search(exact("maze")))
    assert [hit.snippet[start:end] for start, end in hit.marks] == ["maze", "maze"]
    assert "x the maze of mazes y" in hit.snippet
    assert len(hit.snippet) < 160
