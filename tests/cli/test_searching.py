"""search and grep: what they ask for, what they print, how they end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from cli_home import FakeThreads, summary

from clew.cli import main, terminal
from clew.cli.listing import since_stamp
from clew.rollout import Home, RealFileSystem
from clew.store.contracts import ListQuery, SearchHit, SearchProgress, SearchQuery
from clew.testing import ThreadBuilder
from clew.testing.builders import BEGINNING

Use = Callable[[FakeThreads], FakeThreads]

_A = summary("0199a213-0000-7000-8000-000000000001", name="parser", preview="Fix it", cwd="/home/me/p")
_B = summary("0199a213-0000-7000-8000-000000000002", preview="Say \x1b[31mhi", archived=True)
_AT = "2026-07-01T10:00:00.000Z"
_HITS = (
    SearchHit(
        thread=_A, where="user", snippet="fix the parser", marks=((8, 14),), at="2026-07-01T10:00:00.000Z", turn_id="t1"
    ),
    SearchHit(thread=_B, where="output", snippet="a \x1b[2Jparser here", marks=((6, 12),), count=3),
)


def _is_stdout(stream: object) -> bool:
    return stream is sys.stdout


def test_a_search_asks_for_what_the_options_say(use: Use, homes: Path) -> None:
    home = use(FakeThreads())
    words = [
        "search",
        "parser",
        "off by one",
        "fix*",
        "--here",
        "--all",
        "--source",
        "mcp",
        "--tag",
        "red",
        "--tag",
        "blue",
    ]
    narrowed = ["--role", "user", "--role", "agent", "--tool", "exec_command", "--file", "a.py"]
    assert main([*words, *narrowed, "--since", "2026-07-01", "--sort", "recency", "--limit", "0", "--cursor", "x"]) == 0
    assert main(["grep", "a.c", "--until", "2026-07-02", "--in", "last"]) == 1
    assert main(["grep", "-F", "a.c", "--case-sensitive", "--archived", "-l"]) == 1
    now = datetime.now(UTC)
    assert home.searches == [
        SearchQuery(
            text='parser "off by one" fix*',
            within=ListQuery(archived=None, cwd=str(homes), sources=("mcp",), tags=("red", "blue")),
            roles=("user", "agent"),
            tool="exec_command",
            file="a.py",
            since=since_stamp("2026-07-01", now),
            sort="recency",
            limit=1_000_000,
            cursor="x",
        ),
        SearchQuery(
            text="a.c",
            mode="regex",
            within=ListQuery(archived=False),
            until=since_stamp("2026-07-02", now),
            thread_id="last",
        ),
        SearchQuery(text="a.c", mode="text", within=ListQuery(archived=True), case_sensitive=True, limit=1_000_000),
    ]


@pytest.mark.parametrize(
    "wrong",
    [
        ["search"],
        ["grep"],
        ["grep", "x", "--all", "--archived"],
        ["grep", "x", "--here", "--cwd", "y"],
        ["grep", "x", "--limit", "-1"],
        ["grep", "x", "--role", "nobody"],
        ["grep", "x", "-l", "--count"],
        ["grep", "x", "-i", "--case-sensitive"],
        ["search", "x", "--until", "whenever"],
    ],
)
def test_wrong_usage_is_told(use: Use, wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    use(FakeThreads(hits=_HITS))
    assert main(wrong) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Error: ")


def test_in_a_pipe_hits_are_lines_of_columns(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    home = use(FakeThreads(hits=_HITS))
    home.notices = ("1 file could not be read",)
    for command in (["search", "parser"], ["grep", "parser"]):
        assert main(command) == 0
        out, err = capsys.readouterr()
        assert out == (
            f"{_A.id}\t2026-07-01T11:00:00.000Z\tuser\t1\tparser\t/home/me/p\tfix the parser\n"
            f"{_B.id}\t2026-07-01T11:00:00.000Z\toutput\t3\tSay hi\t\ta parser here\n"
        )
        assert err == "Warning: 1 file could not be read\n"
    assert main(["grep", "parser", "-l"]) == 0
    assert main(["grep", "parser", "--count"]) == 0
    assert capsys.readouterr().out == f"{_A.id}\n{_B.id}\n{_A.id}\t1\n{_B.id}\t3\n"


def test_places_inside_a_thread_name_their_turns(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    use(FakeThreads(hits=_HITS[:1]))
    assert main(["grep", "parser", "--in", "parser"]) == 0
    assert capsys.readouterr().out == "t1\t2026-07-01T10:00:00.000Z\tuser\t1\tfix the parser\n"


def test_json_holds_whole_hits(use: Use, capsys: pytest.CaptureFixture[str]) -> None:
    use(FakeThreads(hits=_HITS))
    assert main(["search", "parser", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told == {"hits": msgspec.to_builtins(_HITS), "next_cursor": None, "notices": []} | {
        "hits": json.loads(msgspec.json.encode(_HITS))
    }


def test_on_a_terminal_matches_stand_out_and_nothing_steers_it(
    use: Use, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "is_terminal", _is_stdout)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    use(FakeThreads(hits=_HITS))
    assert main(["grep", "parser"]) == 0
    out = capsys.readouterr().out
    assert "\x1b[1;31mparser\x1b[0m" in out
    assert "\x1b[2J" not in out
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.delenv("FORCE_COLOR")
    assert main(["grep", "parser"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.strip() for line in lines[1::2]] == ["user: fix the parser", "output: a parser here  (3 messages)"]
    assert lines[0].startswith(_A.id)
    assert "(archived)" in lines[2]


def test_nothing_is_said_to_a_person_and_to_a_program(
    use: Use, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(FakeThreads())
    assert main(["search", "parser"]) == 0
    assert main(["grep", "parser"]) == 1
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(terminal, "is_terminal", _is_stdout)
    assert main(["grep", "parser"]) == 1
    assert capsys.readouterr().out == "Nothing found.\n"


def test_a_long_search_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from clew.cli import searching

    now = 0.0
    monkeypatch.setattr(searching.time, "monotonic", lambda: now)
    bar = searching._Bar()  # pyright: ignore[reportPrivateUsage] - its clock stands still here
    bar(SearchProgress(1, 10, 5, 100))
    bar.close()
    assert capsys.readouterr().err == ""
    now = 1.5
    bar(SearchProgress(2, 10, 50, 100))
    bar.close()
    assert capsys.readouterr().err == "\r\x1b[Klooked at 2 of 10 threads, 50 %\r\x1b[K"


def test_ctrl_c_ends_a_search_and_what_runs_for_it(homes: Path, tmp_path: Path) -> None:
    ThreadBuilder().turn("maze", "One.").write(Home(RealFileSystem(), tmp_path / "codex"))
    started = tmp_path / "started"
    ripgrep = tmp_path / "bin" / "rg"
    ripgrep.parent.mkdir()
    steps = [f'echo $$ > "{started}.new"', f'/bin/mv "{started}.new" "{started}"', "exec /bin/sleep 600"]
    ripgrep.write_text("\n".join(["#!/bin/sh", *steps, ""]))
    ripgrep.chmod(0o700)
    program = "import sys; from clew.cli import main; sys.exit(main(['grep', 'maze']))"
    env = {**os.environ, "PATH": f"{ripgrep.parent}:{os.environ['PATH']}"}
    with subprocess.Popen(
        [sys.executable, "-c", program], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as clew:
        try:
            while not started.exists():
                assert clew.poll() is None
                time.sleep(0.01)
            clew.send_signal(signal.SIGINT)
            out, err = clew.communicate(timeout=30)
        finally:
            clew.kill()
    assert (clew.returncode, out, err) == (130, "", "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def test_a_home_is_searched_from_the_command_line(
    homes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(RealFileSystem(), tmp_path / "codex")
    threads = [ThreadBuilder(start=BEGINNING + 3600 * number, seed=number) for number in range(3)]
    for number, thread in enumerate(threads):
        thread.turn(f"maze {number}", "One.").write(home, archived=number == 2, compressed=number == 1)
    assert main(["grep", r"maze \d", "-l"]) == 0
    assert capsys.readouterr().out == f"{threads[1].id}\n{threads[0].id}\n"
    assert main(["grep", "maze", "--all", "--limit", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [hit["thread"]["id"] for hit in told["hits"]] == [threads[2].id, threads[1].id]
    assert main(["grep", "maze", "--all", "-l", "--limit", "2", "--cursor", told["next_cursor"]]) == 0
    assert capsys.readouterr().out == f"{threads[0].id}\n"
    assert main(["grep", "maze", "--in", threads[1].id]) == 0
    assert capsys.readouterr().out.endswith("\tuser\t1\tmaze 1\n")
    assert main(["search", "maze", "2", "--archived"]) == 0
    assert capsys.readouterr().out.startswith(threads[2].id)
    assert main(["grep", "minotaur"]) == 1
    assert main(["grep", "a(b"]) == 2
    assert "at position 1" in capsys.readouterr().err
