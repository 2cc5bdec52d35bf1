"""Recorded homes: what is read of them must be what their own program made of them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from clew.cli.inspect import inspect_home
from clew.history import rebuild, rebuild_forward, turns, turns_page
from clew.rollout import Home, RealFileSystem, read_head, read_thread, read_thread_back


@pytest.mark.timeout(120)
@pytest.mark.parametrize("corpus", [pytest.param("codex", marks=pytest.mark.slow), "codex-extra"])
def test_every_recorded_home_is_read_as_its_own_program_reads_it(shared: Path, corpus: str) -> None:
    checker = shared / "acceptance" / "corpus_check.py"
    if not checker.is_file():
        pytest.skip(f"no checker at {checker}")
    command = [sys.executable, str(checker), "--corpus", str(shared / "corpus" / corpus), "--jobs", "2"]

    run = subprocess.run(
        [*command, "--clew", f"{sys.executable} -m clew.cli.inspect"], capture_output=True, text=True, check=False
    )

    assert run.returncode == 0, run.stdout[-4000:] + run.stderr[-2000:]


def homes(shared: Path) -> list[Home]:
    found = sorted(shared.glob("corpus/codex*/*/*/home"))
    assert found
    return [Home(RealFileSystem(), folder) for folder in found]


def test_bounded_and_full_reading_agree_on_every_recorded_thread(shared: Path) -> None:
    compared = 0
    for home in homes(shared):
        for files in home.threads():
            try:
                records = list(read_thread(home, files))
            except Exception as error:
                with pytest.raises(type(error)):
                    read_thread_back(home, files)
                continue
            head = read_head(home, files.current)
            full, bounded = rebuild_forward(records, head), rebuild(read_thread_back(home, files), head)
            for name in ("items", "recorded", "baseline", "world_state", "window", "last_turn_id", "open_turn_id"):
                assert getattr(bounded, name) == getattr(full, name), (files.current.path, name)
            if full.history_mode == "paginated":
                start = full.meta.subagent_start
                whole = turns_page(read_thread_back(home, files), limit=1000, subagent_start=start)
                assert list(whole.turns[::-1]) == turns(records, "paginated", subagent_start=start)
            compared += 1
    assert compared > 250


def test_items_of_turns_are_shown_as_the_original_shows_them(shared: Path) -> None:
    compared = 0
    for home in homes(shared):
        for golden in sorted((home.sessions.parent.parent / "golden").glob("*.thread-read.0.169.0.json")):
            thread = json.loads(golden.read_text()).get("thread")
            files = home.find(golden.name.partition(".")[0])
            if thread is None or files is None:
                continue
            head = read_head(home, files.current)
            records = list(read_thread(home, files))
            context = rebuild_forward(records, head)
            found = turns(records, context.history_mode, subagent_start=context.meta.subagent_start)
            for turn, wanted in zip(found, thread["turns"], strict=False):
                assert list(turn.items) == wanted["items"], golden
                times = (wanted["startedAt"], wanted["completedAt"], wanted["durationMs"])
                assert (turn.started_at, turn.completed_at, turn.duration_ms) == times, golden
                compared += 1
    assert compared > 500


def lines(folder: Path, reference: str | None) -> tuple[int, list[dict[str, Any]]]:
    out = io.StringIO()
    status = inspect_home(folder, reference, out)
    return status, [json.loads(line) for line in out.getvalue().splitlines()]


def test_one_thread_is_inspected_by_its_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    thread = "01a1f853-89ad-7dd1-9931-b57fb7397706"
    folder = tmp_path / "sessions" / "2026" / "07" / "01"
    folder.mkdir(parents=True)
    path = folder / f"rollout-2026-07-01T12-00-00-{thread}.jsonl"
    said = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hello"}]}
    path.write_text(
        f'{{"timestamp":"T","type":"session_meta","payload":{{"id":"{thread}"}}}}\n'
        "torn\n"
        f'{{"timestamp":"T","type":"response_item","payload":{json.dumps(said)}}}\n'
    )
    (tmp_path / "session_index.jsonl").write_text(
        f'{{"id":"{thread}","thread_name":"old"}}\nnoise\n{{"id":"{thread}","thread_name":"new"}}\n'
    )

    status, found = lines(tmp_path, thread.upper())

    assert (status, len(found)) == (0, 1)
    assert found[0]["path"] == str(path)
    assert (found[0]["name"], found[0]["preview"]) == ("new", "hello")
    assert found[0]["context"] == [said]
    assert [one["line"] for one in found[0]["skipped"]] == [2]
    assert lines(tmp_path, None) == (0, found)
    assert lines(tmp_path, "01a1f853-0000-7dd1-9931-b57fb7397706") == (1, [])
    assert "no thread is called" in capsys.readouterr().err
