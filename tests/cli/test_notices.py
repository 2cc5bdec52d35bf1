"""What lasts is told once a day, not by every command."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import apsw
import pytest

from clew.cli.entry import main
from clew.cli.notices import FILE, tell_once
from clew.index.schema import SIGNATURE


def test_a_notice_is_told_once_a_day(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    day = "2026-07-01"
    monkeypatch.setattr(time, "strftime", lambda *_words: day)  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]

    def told(text: str) -> str:
        tell_once(tmp_path, text)
        return capsys.readouterr().err

    assert [told("one"), told("two"), told("one"), told("two")] == ["Warning: one\n", "Warning: two\n", "", ""]
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    day = "2026-07-02"
    assert [told("one"), told("one")] == ["Warning: one\n", ""]
    assert "2026-07-01" not in (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text("rubbish")
    assert [told("one"), told("one")] == ["Warning: one\n", ""]
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_what_cannot_be_noted_is_told_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):
        tell_once(tmp_path / "nowhere", "one")
    assert capsys.readouterr().err == "Warning: one\n" * 2


def test_an_index_of_a_newer_clew_is_told_by_the_first_command(
    homes: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clew_home = homes.parent / "newer"
    clew_home.mkdir()
    connection: Any = apsw.Connection(str(clew_home / "index.sqlite3"))
    connection.execute("CREATE TABLE theirs (a)")
    connection.pragma("user_version", 900)
    connection.pragma("application_id", SIGNATURE)
    connection.close()
    codes: list[int] = []
    told: list[bool] = []
    for _ in range(2):
        codes.append(main(["list", "--clew-home", str(clew_home)]))
        told.append("is not used" in capsys.readouterr().err)
    assert (codes, told) == ([0, 0], [True, False])
