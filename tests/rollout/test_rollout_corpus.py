"""The reader over homes that real programs wrote."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from clew.errors import LogDamaged, UnsupportedHistory
from clew.rollout import Home, RealFileSystem, Record, Skipped, parse_head, read_head, read_thread, read_thread_back
from clew.rollout.names import RolloutName


def homes(shared: Path) -> list[Home]:
    found = [path for part in ("codex", "codex-extra") for path in sorted((shared / "corpus" / part).glob("*/*/home"))]
    assert len(found) > 200
    return [Home(RealFileSystem(), path) for path in found]


def test_every_thread_is_found_once(shared: Path) -> None:
    for home in homes(shared):
        names = [RolloutName.parse(path.name) for path in home.path.rglob("rollout-*")]
        expected = {name.thread_id for name in names if name is not None}
        threads = list(home.threads())
        assert sorted(thread.thread_id for thread in threads) == sorted(expected)
        for thread in threads:
            assert home.find(thread.thread_id) == thread


def test_every_file_reads_both_ways_and_loses_only_what_is_no_json(shared: Path) -> None:
    refused: list[str] = []
    for home in homes(shared):
        for thread in home.threads():
            try:
                forward = list(read_thread(home, thread))
                backward = list(read_thread_back(home, thread))
            except (LogDamaged, UnsupportedHistory):
                refused.append(home.path.parent.name)
                continue
            assert [(line.start, line.end, type(line)) for line in backward[::-1]] == [
                (line.start, line.end, type(line)) for line in forward
            ]
            skipped = {line.number for line in forward if isinstance(line, Skipped)}
            if not thread.current.compressed and len(thread.segments) == 1:
                assert skipped == no_json(thread.current.path)
            else:
                assert not skipped
    assert set(refused) == {"edge_compressed_truncated_frame", "edge_empty_file", "edge_unknown_history_mode"}


def test_the_head_of_every_file_is_its_own(shared: Path) -> None:
    without: set[str] = set()
    for home in homes(shared):
        for file in home.files():
            head = read_head(home, file)
            if head is None:
                without.add(home.path.parent.name)
            else:
                assert parse_head(head).id == file.thread_id
    assert without == {"edge_compressed_truncated_frame", "edge_empty_file", "edge_no_session_meta"}


def test_inherited_lines_are_gap_free(shared: Path) -> None:
    chains = 0
    for home in homes(shared):
        if "edge" in home.path.parent.name:
            continue
        for thread in home.threads():
            head = read_head(home, thread.current)
            assert head is not None
            if parse_head(head).history_base is None:
                continue
            chains += 1
            ordinals = [line.ordinal for line in read_thread(home, thread) if isinstance(line, Record)]
            assert None not in ordinals
            steps = {later - earlier for earlier, later in pairwise(ordinals) if later and earlier}
            assert steps <= {1, 2}  # 2: a `session_meta` of a base, which is left out
    assert chains > 5


def no_json(path: Path) -> set[int]:
    bad: set[int] = set()
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            if line.strip() and not isinstance(json.loads(line.decode()), dict):
                bad.add(number)
        except ValueError:
            bad.add(number)
    return bad
