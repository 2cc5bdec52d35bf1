"""`clew stats`: what is said about what was spent, to people and to programs."""

from __future__ import annotations

import io
import json
import os
import re
import sys
from pathlib import Path

import pytest

from clew.cli import main, terminal
from clew.rollout import Home, RealFileSystem
from clew.testing import ThreadBuilder
from clew.testing.builders import BEGINNING

DAY = 86_400


@pytest.fixture
def home(homes: Path) -> Home:
    """Two threads: one with three turns, a fork of it with one more; a third, archived."""
    home = Home(RealFileSystem(), Path(os.environ["CODEX_HOME"]))
    source = ThreadBuilder("0.142", cwd=str(homes), model="large").turn("Mend the parser").turn("And?").turn("Now?")
    source.write(home)
    source.fork().turn("Another way").write(home)
    away = ThreadBuilder("0.142", seed=1, start=BEGINNING + 3 * DAY, cwd="/elsewhere", model="small").turn("Hello?")
    away.write(home, archived=True)
    return home


class Terminal(io.TextIOWrapper):
    def isatty(self) -> bool:
        return True


def shown(monkeypatch: pytest.MonkeyPatch, *words: str, width: int = 100, encoding: str = "utf-8") -> str:
    """What a person sees on a terminal."""
    raw = io.BytesIO()
    screen = Terminal(raw, encoding=encoding, write_through=True)
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("NO_COLOR", "1")
    assert main(["stats", "--utc", *words]) == 0
    screen.flush()
    return re.sub(r"\x1b\[[0-9;]*m", "", raw.getvalue().decode(encoding))


@pytest.mark.usefixtures("home")
def test_days_are_shown_with_bars_and_a_total(monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch, "--all") == (
        "day         turns  threads  input  cached  output  tokens\n"
        "2026-07-01      4        2    320       0     160     480  ████████████████████████\n"
        "2026-07-04      1        1     80       0      40     120  ██████\n"
        "total           5        3    400       0     200     600\n"
    )


@pytest.mark.usefixtures("home")
def test_a_narrow_terminal_gets_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    for width in (30, 40, 60, 80):
        lines = shown(monkeypatch, "--all", "--by", "thread", width=width).splitlines()
        assert lines[0].split()[-1] == "tokens"
        if width >= 40:
            assert max(map(len, lines)) <= width


@pytest.mark.usefixtures("home")
def test_without_block_characters_plots_are_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(monkeypatch, "--all", "--by", "model", encoding="ascii")

    assert out.isascii()
    assert "small      1        1     80       0      40     120  ######\n" in out
    assert out.endswith("\n2026-07-01 @  - 2026-07-04\n")


@pytest.mark.usefixtures("home")
def test_threads_have_their_titles_and_archived_ones_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(monkeypatch, "--by", "thread", "--limit", "1")

    assert "Mend the parser" in out
    assert "\n(others)" in out
    assert out.endswith("\n1 turn of archived threads not counted: --all counts them.\n")


@pytest.mark.usefixtures("home")
def test_cost_stands_where_a_price_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(os.environ["CLEW_HOME"], "config.toml").write_text("[stats.prices.large]\ninput = 1e6\noutput = 2e6\n")

    out = shown(monkeypatch, "--all", "--by", "model", width=70)

    assert "large      4     480  640.00   █" in out
    assert "small      1     120       -   █" in out
    assert "total      5     600  640.00+\n" in out
    assert "+ without models that have no price in config.toml ([stats.prices])\n" in out


@pytest.mark.usefixtures("home")
def test_a_pipe_gets_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "--by", "model", "--all"]) == 0

    assert capsys.readouterr().out == (
        "large\t\t4\t2\t320\t0\t0\t160\t0\t480\t\nsmall\t\t1\t1\t80\t0\t0\t40\t0\t120\t\n"
    )


@pytest.mark.usefixtures("home")
def test_json_has_the_documented_shape(capsys: pytest.CaptureFixture[str]) -> None:
    document = Path(__file__).resolve().parents[2].joinpath("docs", "cli.md").read_text()
    example = json.loads(document.partition("## stats")[2].partition("```json\n")[2].partition("```")[0])

    assert main(["stats", "--json", "--by", "model", "--here"]) == 0
    found = json.loads(capsys.readouterr().out)

    assert set(found) == set(example)
    assert set(found["rows"][0]) == set(example["rows"][0]) == set(found["total"])
    assert set(found["rows"][0]["tokens"]) == set(example["rows"][0]["tokens"])
    assert (found["by"], found["total"]["turns"], found["rows"][0]["tokens"]["total"]) == ("model", 4, 480)


@pytest.mark.usefixtures("home")
def test_one_thread_is_counted_by_any_of_its_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", "--json", "--thread", "last"]) == 0
    assert json.loads(capsys.readouterr().out)["total"]["turns"] in (1, 3)


def test_nothing_spent_is_said(homes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert shown(monkeypatch) == "Nothing was spent.\n"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--by", "modle"], "Did you mean model?"),
        (["--all", "--archived"], "--all and --archived exclude each other"),
        (["--here", "--cwd", "."], "--cwd and --here exclude each other"),
        (["--until", "soon"], "--until: 'soon' is no time"),
        (["--limit", "-1"], "--limit: a number from 0 up is needed"),
    ],
)
@pytest.mark.usefixtures("home")
def test_wrong_usage_is_explained(words: list[str], why: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stats", *words]) == 2
    assert why in capsys.readouterr().err


def test_files_that_cannot_be_read_are_named_once_and_counted_as_far_as_they_go(
    homes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(RealFileSystem(), Path(os.environ["CODEX_HOME"]))
    for seed in range(5):
        path = ThreadBuilder("0.142", seed=seed).turn("Hello?").write(home, compressed=True)
        packed = path.with_name(path.name + ".zst")
        packed.write_bytes(packed.read_bytes()[:-200])

    assert main(["stats", "--json"]) == 0

    told = capsys.readouterr()
    assert told.err.count("counted as far as it can be read") == 3
    assert "so it is with 2 more files" in told.err
    assert len(json.loads(told.out)["notices"]) == 5


def test_progress_is_told_to_a_person_and_only_after_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    from clew.cli.progress import Progress
    from clew.store.queries import SearchProgress

    now = [0.0]
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stderr", Terminal(raw, encoding="utf-8", write_through=True))
    assert terminal.is_terminal(sys.stderr)
    progress = Progress("counting", now=lambda: now[0])

    progress(SearchProgress(1, 4, 10, 40))
    now[0] = 2.0
    progress(SearchProgress(2, 4, 20, 40))
    progress(SearchProgress(3, 4, 30, 40))
    progress.clear()
    progress(SearchProgress(4, 4, 40, 40))

    assert raw.getvalue() == b"\r\x1b[Kcounting: 2 of 4 files, 50 %\r\x1b[K"
