"""`clew du`: where the bytes are, said to people and to programs."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path

import pytest

from clew.cli import main
from clew.rollout import Home, RealFileSystem
from clew.testing import Call, ThreadBuilder


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def threads(homes: Path) -> tuple[ThreadBuilder, ThreadBuilder]:
    """A big old thread and a small one, archived."""
    home = Home(RealFileSystem(), Path(os.environ["CODEX_HOME"]))
    big = ThreadBuilder("0.142", seed=1, start=1_700_000_000)
    big.turn("List the files", "Done.", calls=[Call("ls", output="a.txt\n" * 20_000)])
    small = ThreadBuilder("0.142", seed=2, start=1_700_000_000).turn("Hello?")
    big.write(home)
    small.write(home, archived=True)
    trash = Path(os.environ["CLEW_HOME"], "trash", "rollout")
    trash.parent.mkdir()
    trash.write_bytes(b"x" * 70_000)
    return big, small


def shown(monkeypatch: pytest.MonkeyPatch, *words: str, width: int = 100, encoding: str = "utf-8") -> str:
    raw = io.BytesIO()
    screen = Terminal(raw, encoding=encoding, write_through=True)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["du", *words]) == 0
    screen.flush()
    return re.sub(r"\x1b\[[0-9;]*m", "", raw.getvalue().decode(encoding))


def test_a_person_is_told_causes_kinds_threads_places_and_savings(
    threads: tuple[ThreadBuilder, ThreadBuilder], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shown(monkeypatch)

    assert re.search(r"^2 threads: 1\d\d kB in files, 1\d\d kB on the disk, 1\d\d kB of text when unpacked$", out, re.M)
    assert re.search(r"^tool output +14\d kB +14\d kB  █{24}$", out, re.M)
    assert re.search(r"^archived plain +1 ", out, re.M)
    assert re.search(rf"^ +14\d kB  {threads[0].id[:8]}.*  List the files$", out, re.M)
    assert re.search(r"\(archived\) Hello\?$", out, re.M)
    assert re.search(r"^trash +1   70\.0 kB   7\d\.\d kB$", out, re.M)
    assert re.search(
        r"^ +about 14\d kB  compress threads that did not change for 7 days\n +clew compress --all$", out, re.M
    )
    assert re.search(r"^ +70\.0 kB  empty the trash\n +clew trash empty$", out, re.M)


def test_of_a_thread_its_files_are_named(
    threads: tuple[ThreadBuilder, ThreadBuilder], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shown(monkeypatch, threads[1].id)

    assert f"{threads[1].id}  Hello?" in out
    assert re.search(rf"^ +[\d.]+ kB +[\d.]+ kB  rollout-.*{threads[1].id}\.jsonl$", out, re.M)
    assert "elsewhere" not in out


@pytest.mark.usefixtures("threads")
def test_a_narrow_or_plain_terminal_gets_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "  █" not in shown(monkeypatch, width=50)
    assert shown(monkeypatch, encoding="ascii").isascii()


def test_a_pipe_gets_tabs(threads: tuple[ThreadBuilder, ThreadBuilder], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["du"]) == 0

    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {len(row) for row in rows} == {4}
    assert [row[1] for row in rows if row[0] == "thread"] == [thread.id for thread in threads]
    assert ["place", "trash", "70000"] in [row[:3] for row in rows]
    sizes = {kind: sum(int(row[2]) for row in rows if row[0] == kind) for kind in ("cause", "kind", "thread")}
    assert len(set(sizes.values())) == 1


@pytest.mark.usefixtures("threads")
def test_json_has_the_documented_shape(capsys: pytest.CaptureFixture[str]) -> None:
    document = Path(__file__).resolve().parents[2].joinpath("docs", "cli.md").read_text()
    example = json.loads(document.partition("## du")[2].partition("```json\n")[2].partition("```")[0])

    assert main(["du", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)

    assert set(found) == set(example)
    for name in ("causes", "kinds", "threads", "places", "savings"):
        assert set(found[name][0]) == set(example[name][0]), name
    assert set(found["threads"][0]["files"][0]) == set(example["threads"][0]["files"][0])


@pytest.mark.usefixtures("threads")
def test_a_thread_that_is_not_there_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["du", "nobody"]) == 1
    assert "nobody" in capsys.readouterr().err
