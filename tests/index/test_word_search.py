"""Words find what was said, each thread once, whatever is asked."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from indexed import TOKEN, database, take, words

from clew.errors import BadRequest
from clew.history.digest import Digest, digest_lines
from clew.history.said import Said
from clew.index import beginnings, word_search
from clew.index.files import known_files
from clew.index.word_search import WordHit, WordQuery, find_inside, find_words
from clew.index.words import put_titles
from clew.rollout import Home, RealFileSystem
from clew.testing.builders import BEGINNING, Call, ThreadBuilder


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(RealFileSystem(), tmp_path / "codex")


def thread(number: int, user: str, agent: str = "Done.", **more: object) -> ThreadBuilder:
    built = ThreadBuilder("0.169", start=BEGINNING + number * 3600, seed=number)
    return built.turn(user, agent, **more)  # type: ignore[arg-type]


def indexed(home: Home, *threads: ThreadBuilder) -> apsw.Connection:
    for built in threads:
        built.write(home)
    connection = database()
    take(connection, home)
    return connection


def found(
    connection: apsw.Connection,
    text: str,
    *,
    fits: Callable[[str], bool] | None = None,
    among: Sequence[str] | None = None,
    **more: Any,
) -> list[tuple[str, str]]:
    """Thread and role of each hit, in order, page by page."""
    hits: list[WordHit] = []
    cursor = None
    while True:
        query = WordQuery(words=words(text), cursor=cursor, **more)
        page = find_words(connection, query, fits, among)
        assert len(page.hits) <= query.limit
        hits += page.hits
        cursor = page.next_cursor
        if cursor is None:
            return [(hit.thread, hit.role) for hit in hits]


def test_words_phrases_and_beginnings(home: Home) -> None:
    one = thread(1, "Rename the über_parser module")
    connection = indexed(home, one, thread(2, "Nothing of the kind"))

    for text in (
        "parser",
        "PARSER",
        "ÜBER",
        "Über_Parser",
        '"the über parser"',
        "ren*",
        "module rename",
    ):
        assert found(connection, text) == [(one.id, "user")], text
    for text in ("pars", '"parser über"', "rename kind", "zebra*", "uber"):
        assert found(connection, text) == [], text


def test_the_newest_come_first_and_each_thread_once(home: Home) -> None:
    threads = [thread(number, "needle one", "needle two").turn("needle three", "needle") for number in range(5)]
    connection = indexed(home, *threads)

    newest = [(built.id, "agent") for built in reversed(threads)]
    assert found(connection, "needle", sort="recency", limit=2) == newest
    page = find_words(connection, WordQuery(words=words("needle"), sort="recency"))
    assert [hit.count for hit in page.hits] == [4] * 5


def test_a_thread_that_goes_on_later_is_shown_once_over_all_pages(home: Home) -> None:
    old = thread(0, "needle at first")
    between = [thread(number, "needle between") for number in range(1, 6)]
    old.turn("needle again", "Yes.")
    connection = indexed(home, old, *between)

    hits = found(connection, "needle", sort="recency", limit=1)
    assert sorted(hits) == sorted((built.id, "user") for built in [old, *between])


@pytest.mark.parametrize("few", [0, 200])
def test_titles_count_more(home: Home, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(word_search, "FEW", few)
    threads = [thread(number, "Fix the needle") for number in range(4)]
    connection = indexed(home, *threads, thread(9, "Other things"))
    files = {known.thread: known.id for known in known_files(connection).values()}
    put_titles(connection, [(0, files[threads[1].id], "A needle")])
    put_titles(connection, [(0, files[threads[0].id], "Something else")])

    expected = [(threads[number].id, "user") for number in (3, 2, 0)]
    for limit in (1, 2, 25):
        assert found(connection, "needle", limit=limit) == [(threads[1].id, "title"), *expected]
    put_titles(connection, [(0, files[threads[2].id], "Needles and a needle"), (0, files[threads[3].id], "My needle")])
    for limit in (1, 2, 25):
        named = found(connection, "needle", limit=limit)
        assert (sorted(named[:3]), named[3:]) == (
            sorted((threads[number].id, "title") for number in (1, 2, 3)),
            [(threads[0].id, "user")],
        )
    put_titles(connection, [(0, files[threads[number].id], None) for number in (2, 3)])
    assert found(connection, "needle", roles=("title",)) == [(threads[1].id, "title")]

    put_titles(connection, [(0, files[threads[1].id], None)])
    assert found(connection, "needle", roles=("title",)) == []


def test_by_time_names_stand_where_their_threads_were_named(home: Home) -> None:
    threads = [thread(number, "a needle", "a needle") for number in range(4)]
    named = thread(9, "other things")
    connection = indexed(home, *threads, named)
    files = {known.thread: known.id for known in known_files(connection).values()}
    put_titles(connection, [(int((BEGINNING + 1.5 * 3600) * 1000), files[named.id], "The needle")])
    put_titles(connection, [(int((BEGINNING + 2.5 * 3600) * 1000), files[threads[0].id], "Needles, a needle")])

    expected = [
        (threads[3].id, "agent"),
        (threads[0].id, "title"),
        (threads[2].id, "agent"),
        (named.id, "title"),
        (threads[1].id, "agent"),
    ]
    for limit in (1, 2, 3, 25):
        assert found(connection, "needle", sort="recency", limit=limit) == expected
    assert found(connection, "needle", roles=("user",), sort="recency", limit=2) == [
        (threads[number].id, "user") for number in (3, 2, 1, 0)
    ]
    inside = find_inside(connection, WordQuery(words=words("needle")), threads[0].id)
    assert [hit.role for hit in inside.hits] == ["title", "user", "agent"]


@pytest.mark.parametrize("most", [0, 3, 4, 600])
def test_a_beginning_is_every_word_that_begins_so(home: Home, most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beginnings, "MOST", most)
    monkeypatch.setattr(word_search, "FEW", 2)
    said = ["config", "Configure it", "confi", "an unconfigured one", "CONFIGURATION", "con fig", "configure configure"]
    threads = [thread(number, text) for number, text in enumerate(said)]
    connection = indexed(home, *threads)

    def numbers(text: str) -> list[int]:
        hits = found(connection, text, limit=2)
        return [[built.id for built in threads].index(thread_id) for thread_id, _ in hits]

    assert numbers("config*") == [6, 4, 1, 0]
    assert numbers("CONFIG*") == [6, 4, 1, 0]
    assert sorted(numbers("configu* it")) == [1]
    assert numbers("configz*") == []


def test_filters_by_role_tool_file_and_time(home: Home) -> None:
    patch = "*** Begin Patch\n*** Update File: src/deep/needle.py\n@@\n-a\n+b\n*** End Patch\n"
    said = thread(1, "the needle", "the needle")
    ran = thread(2, "look", calls=[Call("rg needle", output="x")])
    patched = thread(3, "fix", calls=[Call(patch, name="apply_patch", custom=True, output="ok")])
    connection = indexed(home, said, ran, patched)

    def sort(**more: Any) -> list[tuple[str, str]]:
        return found(connection, "needle", sort="recency", **more)

    assert sort() == [(patched.id, "file"), (ran.id, "command"), (said.id, "agent")]
    assert sort(roles=("user",)) == [(said.id, "user")]
    assert sort(roles=("command", "file")) == [(patched.id, "file"), (ran.id, "command")]
    assert sort(tool="exec_command") == [(ran.id, "command")]
    assert sort(tool="no_such_tool") == []
    assert sort(file="deep/needle.py") == [(patched.id, "file")]
    assert found(connection, "fix", file="needle.py") == [(patched.id, "user")]
    assert sort(file="other.py") == []
    middle = int((BEGINNING + 2 * 3600) * 1000)
    assert sort(since=middle) == [(patched.id, "file"), (ran.id, "command")]
    assert sort(until=middle - 1) == [(said.id, "agent")]


def test_a_copy_is_no_hit_while_its_source_is_one(home: Home) -> None:
    source = ThreadBuilder("0.142").turn("The needle?", "Here.")
    fork = source.fork().turn("Another thing?", "There.")
    connection = indexed(home, source, fork)

    assert found(connection, "needle") == [(source.id, "user")]
    assert found(connection, "another") == [(fork.id, "user")]
    inside = find_inside(connection, WordQuery(words=words("needle")), fork.id)
    assert [(hit.copied, hit.role) for hit in inside.hits] == [(True, "user")]

    alone = Home(RealFileSystem(), home.path.with_name("alone"))
    assert found(indexed(alone, fork), "needle") == [(fork.id, "user")]


def test_every_place_in_one_thread_in_its_order(home: Home) -> None:
    built = thread(1, "needle", "no").turn("no", "a needle").turn("needle", "no")
    connection = indexed(home, built, thread(2, "needle"))

    hits: list[WordHit] = []
    cursor = None
    while True:
        page = find_inside(connection, WordQuery(words=words("needle"), limit=2, cursor=cursor), built.id)
        hits += page.hits
        cursor = page.next_cursor
        if cursor is None:
            break
    assert [(hit.role, hit.turn_id) for hit in hits] == [
        ("user", built.turn_ids[0]),
        ("agent", built.turn_ids[1]),
        ("user", built.turn_ids[2]),
    ]
    assert [hit.offset for hit in hits] == sorted(hit.offset for hit in hits)


def test_filters_on_threads_are_asked_once_per_thread(home: Home) -> None:
    threads = [thread(number, "needle", "needle") for number in range(4)]
    connection = indexed(home, *threads)
    asked: list[str] = []

    def fits(thread_id: str) -> bool:
        asked.append(thread_id)
        return thread_id != threads[2].id

    page = find_words(connection, WordQuery(words=words("needle"), sort="recency"), fits)

    assert [hit.thread for hit in page.hits] == [threads[number].id for number in (3, 1, 0)]
    assert asked == [threads[number].id for number in (3, 2, 1, 0)]


@pytest.mark.parametrize(
    "text", ['"', "AND", "a OR b", "NEAR(a b)", "user:a", "-a", "^a", '"a" "', "a\0b", "{x}:y", "*", "😀"]
)
def test_what_people_type_is_never_a_mistake(home: Home, text: str) -> None:
    connection = indexed(home, thread(1, "Said"))
    assert found(connection, text) == []


@pytest.mark.parametrize("cursor", ["", "x", "WzEsMl0=", "bm9uc2Vuc2U="])
def test_a_foreign_cursor_is_refused(home: Home, cursor: str) -> None:
    connection = indexed(home, thread(1, "Said"))
    with pytest.raises(BadRequest):
        find_words(connection, WordQuery(words=words("said"), cursor=cursor))


VOCABULARY = ["needle", "hay", "Über", "stack_trace", "x1"]
TEXTS = st.lists(st.sampled_from(VOCABULARY), min_size=1, max_size=4).map(" ".join)


@settings(max_examples=40, deadline=None)
@given(
    said=st.lists(st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3), min_size=1, max_size=5),
    names=st.lists(st.none() | TEXTS, min_size=5, max_size=5),
    asked=st.sampled_from(["needle", "needle hay", '"hay needle"', "ha*", "stack", "über", "x1 trace", "n* h*"]),
    sort=st.sampled_from(["rank", "recency"]),
    limit=st.integers(1, 3),
    few=st.sampled_from([0, 2, 200]),
    most=st.sampled_from([0, 1, 600]),
)
def test_a_search_finds_what_reading_everything_finds(
    said: list[list[tuple[str, str]]],
    names: list[str | None],
    asked: str,
    sort: Literal["rank", "recency"],
    limit: int,
    few: int,
    most: int,
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(word_search, "FEW", few)
        patch.setattr(beginnings, "MOST", most)
        home = Home(RealFileSystem(), Path(folder))
        built: list[ThreadBuilder] = []
        for number, turns in enumerate(said):
            one = ThreadBuilder("0.169", start=BEGINNING + number * 60, seed=number)
            for user, agent in turns:
                one.turn(user, agent)
            built.append(one)
        connection = indexed(home, *built)
        files = {known.thread: known.id for known in known_files(connection).values()}
        expected: set[str] = set()
        for number, (one, name) in enumerate(zip(built, names, strict=False)):
            put_titles(connection, [(int((BEGINNING + number * 70) * 1000), files[one.id], name)])
            texts: list[Said] = []
            digest_lines(Digest(), one.data, texts)
            if any(fits(text, asked) for text in (name or "", *(entry.text for entry in texts))):
                expected.add(one.id)

        hits = found(connection, asked, sort=sort, limit=limit)

        assert len(hits) == len({thread_id for thread_id, _ in hits})
        assert {thread_id for thread_id, _ in hits} == expected

        # Threads that are known beforehand are looked into one by one, and come in the same order.
        wanted = [one.id for number, one in enumerate(built) if number % 2 == 0]
        patch.setattr(word_search, "ALWAYS_APART", 0)
        patch.setattr(word_search, "DENSE", 1 << 40)
        together = found(connection, asked, sort=sort, limit=limit, fits=wanted.__contains__)
        assert together == [hit for hit in hits if hit[0] in wanted]
        patch.setattr(word_search, "ALWAYS_APART", 200)
        assert found(connection, asked, sort=sort, limit=limit, fits=wanted.__contains__, among=wanted) == together
        connection.close()


def fits(text: str, asked: str) -> bool:
    tokens = [token.lower().replace("ü", "u") for token in TOKEN.findall(text)]
    for phrase, beginning in words(asked):
        wanted = [token.lower().replace("ü", "u") for token in phrase]
        for at in range(len(tokens) - len(wanted) + 1):
            piece = tokens[at : at + len(wanted)]
            if piece == wanted or (beginning and piece[:-1] == wanted[:-1] and piece[-1].startswith(wanted[-1])):
                break
        else:
            return False
    return True
