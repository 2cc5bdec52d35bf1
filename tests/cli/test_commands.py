"""list, fork, rename, archive: what they ask for and what they print."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cli_home import FakeThreads, summary

from clew.cli import main, terminal
from clew.cli.listing import since_stamp
from clew.cli.options import UsageError
from clew.store.contracts import ListQuery, SearchHit, SearchQuery

Use = Callable[[FakeThreads], FakeThreads]

_A = summary(
    "0199a213-0000-7000-8000-000000000001",
    name="parser",
    preview="Fix the\nparser",
    cwd="/home/me/p",
    model="gpt-5",
    source="mcp",
)
_B = summary("0199a213-0000-7000-8000-000000000002", preview="Say \x1b[31mhi\x1b[0m\tnow", archived=True)


def _is_stdout(stream: object) -> bool:
    return stream is sys.stdout


def test_in_a_pipe_a_list_is_lines_of_columns(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    home = use(FakeThreads(_A, _B))
    assert main(["list", "--all"]) == 0
    assert capsys.readouterr().out == (
        f"{_A.id}\t2026-07-01T11:00:00.000Z\tparser\t/home/me/p\tgpt-5\tmcp\tFix the parser\n"
        f"{_B.id}\t2026-07-01T11:00:00.000Z\t\t\t\t\tSay hi now\n"
    )
    assert home.queries == [ListQuery(archived=None, limit=25)]


def test_a_list_asks_for_what_the_options_say(use: Use, homes: Path) -> None:
    home = use(FakeThreads())
    assert main(["list", "--here", "--archived", "--source", "mcp", "--source", "exec", "--limit", "3"]) == 0
    assert main(["list", "--cwd", "sub", "-C", "/elsewhere", "--since", "2026-07-01T00:00:00Z"]) == 0
    assert home.queries == [
        ListQuery(archived=True, cwd=str(homes), sources=("mcp", "exec"), limit=3),
        ListQuery(cwd="/elsewhere/sub", since="2026-07-01T00:00:00.000Z", limit=25),
    ]


def test_a_list_has_every_filter_and_order(use: Use) -> None:
    home = use(FakeThreads(_A))
    narrow = ["--provider", "p", "-m", "gpt-5", "--branch", "main", "--repository", "r", "--pinned", "--tag", "a"]
    times = ["--since", "2026-07-01T00:00:00Z", "--until", "2026-07-02T00:00:00Z"]
    assert main(["list", *narrow, *times, "--tag", "b", "--title", "pars", "--sort", "recency"]) == 0
    assert main(["list", "--sort", "name", "--parent", _A.id]) == 0
    assert main(["list", "--sort", "size", "--reverse", "--ancestor", _A.id]) == 0
    assert home.queries == [
        ListQuery(
            providers=("p",),
            models=("gpt-5",),
            branch="main",
            repository="r",
            pinned=True,
            tags=("a", "b"),
            since="2026-07-01T00:00:00.000Z",
            until="2026-07-02T00:00:00.000Z",
            text="pars",
            sort="recency",
            limit=25,
        ),
        ListQuery(parent=_A.id, sort="name", ascending=True, limit=25),
        ListQuery(ancestor=_A.id, sort="size", ascending=True, limit=25),
    ]


@pytest.mark.parametrize(
    "words", [["--all", "--archived"], ["--parent", "a", "--ancestor", "b"], ["--cwd", ".", "--here"]]
)
def test_filters_that_exclude_each_other_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", *words]) == 2
    assert "exclude each other" in capsys.readouterr().err


def test_a_long_list_is_read_in_pages(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    home = use(FakeThreads(*(summary(f"thread-{number:03}") for number in range(450))))
    assert main(["list", "--json", "--limit", "0"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (len(told["threads"]), told["next_cursor"]) == (450, None)
    assert [query.cursor for query in home.queries] == [None, "200", "400"]
    assert main(["list", "--json", "--limit", "2"]) == 0
    assert json.loads(capsys.readouterr().out)["next_cursor"] == "2"


def test_a_search_shows_where_it_was_said(use: Use, homes: Path, capsys: pytest.CaptureFixture[str]) -> None:
    here = summary("here", cwd=str(homes / "sub"), updated_at="2026-07-02T00:00:00.000Z")
    home = use(FakeThreads(hits=[SearchHit(thread=here, where="agent", snippet="the parser is")]))
    assert main(["list", "--here", "--search", "parser", "--since", "2026-07-02", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    within = ListQuery(cwd=str(homes), since=since_stamp("2026-07-02", datetime.now(UTC)), limit=25)
    assert home.searches == [
        SearchQuery(text="parser", mode="text", roles=("title", "user", "agent"), within=within, limit=25)
    ]
    assert [(row["id"], row["match"]) for row in told["threads"]] == [
        ("here", {"where": "agent", "snippet": "the parser is"})
    ]


def test_on_a_terminal_a_list_is_a_table(
    use: Use, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "is_terminal", _is_stdout)
    monkeypatch.setenv("COLUMNS", "110")
    use(FakeThreads(_A, _B, summary("0199b000-0000-7000-8000-000000000003", error="cut\nfile")))
    assert main(["list", "--limit", "2"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0].split() == ["id", "when", "thread", "folder", "model", "source"]
    # Ids of the same minute begin alike: they are shown as far as it takes to tell them apart.
    assert lines[1].startswith(f"{_A.id}  ")
    assert "parser  Fix the parser" in lines[1]
    assert "(archived)" in lines[2]
    assert lines[-1].startswith("More: the same command with --cursor 2")


def test_an_empty_list_says_what_to_do(
    use: Use, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(FakeThreads())
    assert main(["list"]) == 0
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(terminal, "is_terminal", _is_stdout)
    assert main(["list"]) == 0
    assert "clew demo" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("30min", "2026-07-15T11:30:00.000Z"),
        ("12h", "2026-07-15T00:00:00.000Z"),
        ("7d", "2026-07-08T12:00:00.000Z"),
        ("2w", "2026-07-01T12:00:00.000Z"),
        ("2026-07-01T02:00:00+02:00", "2026-07-01T00:00:00.000Z"),
    ],
)
def test_spans_and_dates_are_understood(text: str, stamp: str) -> None:
    assert since_stamp(text, datetime(2026, 7, 15, 12, tzinfo=UTC)) == stamp


def test_other_words_for_times_are_refused() -> None:
    with pytest.raises(UsageError, match="--since: 'yesterday' is no time"):
        since_stamp("yesterday", datetime.now(UTC))


@pytest.mark.parametrize(
    "words",
    [
        ["list", "--all", "--archived"],
        ["list", "--here", "--cwd", "."],
        ["list", "--limit", "-1"],
        ["rename", "parser"],
        ["rename", "parser", "x", "--clear"],
        ["archive"],
        ["fork", "parser", "--after-turn", "a", "--before-turn", "b"],
        ["fork", "parser", "--at", "a", "--before", "b"],
        ["revert", "parser"],
        ["revert", "parser", "--undo", "--before", "1"],
        ["show", "parser", "--raw", "--json"],
    ],
)
def test_contradictions_are_wrong_usage(words: list[str], use: Use) -> None:
    use(FakeThreads(_A))
    assert main(words) == 2


def test_a_fork_prints_the_new_id(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    home = use(FakeThreads(_A))
    assert main(["fork", "parser", "--after-turn", "t-3", "--name", "other"]) == 0
    assert capsys.readouterr().out == "forked\n"
    assert main(["fork", "parser", "--before", "-1", "--copy"]) == 0
    assert home.calls == [
        ("fork", "parser", {"after_turn": "t-3", "name": "other"}),
        ("fork", "parser", {"before_turn": "-1", "copy": True}),
    ]


def test_a_revert_says_what_it_took_back_and_how_to_have_it_again(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    home = use(FakeThreads(_A))
    assert main(["revert", "parser", "--before", "-2"]) == 0
    again = f"Have it as it was: clew revert {_A.id} --undo\n"
    assert capsys.readouterr().out == f"{_A.id} is back where turn -2 began, 2 turns taken back\n{again}"
    assert main(["revert", "parser", "--undo"]) == 0
    said = f"{_A.id} goes on where it stood before its last revert, 1 turn done since taken back\n"
    assert capsys.readouterr().out == said + again
    assert main(["revert", "parser", "--before-turn", "t", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["turns_taken_back"] == 2
    assert home.calls == [("revert", "parser", "-2"), ("restore", "parser"), ("revert", "parser", "t")]


def test_names_come_and_go(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    home = use(FakeThreads(_A))
    assert main(["rename", "parser", "lexer"]) == 0
    assert main(["rename", "parser", "--clear", "--json"]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{_A.id} is called lexer\n")
    assert json.loads(out.split("\n", 1)[1])[0]["name"] is None
    assert home.calls == [("rename", "parser", "lexer"), ("rename", "parser", None)]


def test_one_unknown_thread_does_not_keep_the_others(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    use(FakeThreads(_A, _B))
    assert main(["archive", "nope", "parser"]) == 1
    out, err = capsys.readouterr()
    assert out == f"{_A.id} archived\n"
    assert err.startswith("Error: no thread is called nope\n")
    assert main(["unarchive", _B.id]) == 0
