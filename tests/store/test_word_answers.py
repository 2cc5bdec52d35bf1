"""Searches for words are answered by the index, with what the files say."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from index_bench import IndexBench

from clew.errors import BadRequest
from clew.store.queries import ListQuery, SearchQuery
from clew.store.search import Scan


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[IndexBench]:
    bench = IndexBench(tmp_path)
    bench.home.fs.make_folder(bench.home.path)
    yield bench
    bench.close()


@pytest.fixture
def no_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    def scanned(*_: object, **__: object) -> None:
        raise AssertionError("the files of the home were looked at")

    monkeypatch.setattr(Scan, "search", scanned)


def _shown(bench: IndexBench, query: SearchQuery) -> list[tuple[str, str, str, list[str]]]:
    page = bench.open().catalog.search(query)
    return [
        (hit.thread.id, hit.where, hit.snippet, [hit.snippet[begin:end] for begin, end in hit.marks])
        for hit in page.hits
    ]


@pytest.mark.usefixtures("no_scan")
@pytest.mark.parametrize("shape", ["plain", "archived", "compressed"])
def test_a_hit_shows_what_the_file_says(bench: IndexBench, shape: str) -> None:
    thread = bench.thread(1)
    thread.write(bench.home, archived=shape == "archived", compressed=shape == "compressed")
    bench.thread(2).write(bench.home)
    bench.keep()
    assert _shown(bench, SearchQuery(text="answer 1", roles=("agent",))) == [
        (thread.id, "agent", "Answer 1.", ["Answer", "1"])
    ]
    assert _shown(bench, SearchQuery(text="question 1")) == [(thread.id, "user", "Question 1?", ["Question", "1"])]
    archived = ListQuery(archived=shape == "archived")
    assert [row[0] for row in _shown(bench, SearchQuery(text="answer 1", within=archived))] == [thread.id]
    assert _shown(bench, SearchQuery(text="answer 1", within=ListQuery(archived=shape != "archived"))) == []


@pytest.mark.usefixtures("no_scan")
def test_what_was_said_a_moment_ago_is_found(bench: IndexBench) -> None:
    bench.thread(1).write(bench.home)
    bench.keep()
    new = bench.thread(2).turn("Where is the minotaur?", "In the maze.")
    new.write(bench.home)
    assert [row[0] for row in _shown(bench, SearchQuery(text="minotaur"))] == [new.id]


@pytest.mark.usefixtures("no_scan")
def test_words_go_with_a_file_that_was_moved(bench: IndexBench) -> None:
    thread = bench.thread(1)
    thread.write(bench.home)
    bench.keep()
    (path,) = (file.path for file in bench.home.files())
    bench.home.archived_sessions.mkdir(parents=True)
    path.rename(bench.home.archived_sessions / path.name)
    page = bench.open().catalog.search(SearchQuery(text="answer 1", roles=("agent",)))
    assert [(hit.thread.id, hit.thread.archived, hit.count) for hit in page.hits] == [(thread.id, True, 1)]


def test_what_a_revert_took_back_is_not_found(bench: IndexBench) -> None:
    thread = bench.thread(1).turn("Where is the minotaur?", "In the maze.").revert(1)
    thread.turn("Where is the thread?", "In her hand.").write(bench.home)
    bench.keep()
    assert _shown(bench, SearchQuery(text="minotaur")) == []
    assert [row[0] for row in _shown(bench, SearchQuery(text="hand"))] == [thread.id]


def test_pages_of_the_index_and_of_a_scan_are_not_mixed_up(bench: IndexBench) -> None:
    for number in range(5):
        bench.thread(number).write(bench.home)
    query = SearchQuery(text="question", limit=2)
    scanned = bench.plain.search(query).next_cursor
    bench.keep()
    catalog = bench.open().catalog
    page = catalog.search(query)
    rest = catalog.search(SearchQuery(text="question", limit=9, cursor=page.next_cursor))
    assert len({hit.thread.id for hit in (*page.hits, *rest.hits)}) == 5
    # A page that a scan began is gone on with by a scan.
    assert len(catalog.search(SearchQuery(text="question", limit=9, cursor=scanned)).hits) == 3
    with pytest.raises(BadRequest, match="cursor"):
        bench.plain.search(SearchQuery(text="question", cursor=page.next_cursor))


@pytest.mark.usefixtures("no_scan")
@pytest.mark.parametrize("mode", ["words", "text", "regex"])
def test_titles_alone_are_names_and_first_messages(bench: IndexBench, mode: str) -> None:
    threads = [bench.thread(number) for number in range(12)]
    for thread in threads:
        thread.write(bench.home)
    bench.open().catalog.rename(threads[3].id, "The Labyrinth of question marks")
    bench.keep()
    query = SearchQuery(text="question", mode=mode, roles=("title",), limit=5)  # pyright: ignore[reportArgumentType] - a word of it
    catalog = bench.open().catalog
    found: list[tuple[str, str]] = []
    page = catalog.search(query)
    while True:
        found += [(hit.thread.id, hit.snippet) for hit in page.hits]
        if page.next_cursor is None:
            break
        page = catalog.search(msgspec.structs.replace(query, cursor=page.next_cursor))
    files = sorted(bench.home.files(), key=lambda file: (file.mtime_ns, file.thread_id), reverse=True)
    titles = {thread.id: f"Question {number}?" for number, thread in enumerate(threads)}
    titles[threads[3].id] = "The Labyrinth of question marks"
    assert found == [(file.thread_id, titles[file.thread_id]) for file in files]
    assert _shown(bench, msgspec.structs.replace(query, text="minotaur")) == []


def test_a_page_of_titles_goes_on_where_a_scan_stopped(bench: IndexBench) -> None:
    for number in range(5):
        bench.thread(number).write(bench.home)
    query = SearchQuery(text="question", mode="text", roles=("title",), limit=2)
    scanned = bench.plain.search(query)
    bench.keep()
    rest = bench.open().catalog.search(msgspec.structs.replace(query, limit=9, cursor=scanned.next_cursor))
    assert len({hit.thread.id for hit in (*scanned.hits, *rest.hits)}) == len(scanned.hits) + len(rest.hits) == 5


@pytest.mark.usefixtures("no_scan")
def test_a_name_is_found_among_words_until_it_is_another(bench: IndexBench) -> None:
    thread = bench.thread(1)
    thread.write(bench.home)
    bench.keep()
    catalog = bench.open().catalog
    catalog.rename(thread.id, "The Labyrinth")
    assert _shown(bench, SearchQuery(text="labyrinth")) == [(thread.id, "title", "The Labyrinth", ["Labyrinth"])]
    catalog.rename(thread.id, "The Maze")
    assert _shown(bench, SearchQuery(text="labyrinth")) == []
    assert _shown(bench, SearchQuery(text="maze")) == [(thread.id, "title", "The Maze", ["Maze"])]


def test_a_thread_that_grew_keeps_what_it_began_with(bench: IndexBench) -> None:
    thread = bench.thread(1)
    path = thread.write(bench.home)
    bench.keep()
    path.write_bytes(thread.turn("And then?", "Then it grew.").data)
    assert [hit.thread.preview for hit in bench.open().catalog.search(SearchQuery(text="grew")).hits] == ["Question 1?"]
    assert [row.turns for row in bench.open().catalog.list(ListQuery()).threads] == [2]
