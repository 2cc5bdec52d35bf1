"""A document says again what it said when it was taken."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from clew.history.digest import Digest, digest_lines
from clew.history.said import Said
from clew.index import places
from clew.index.places import said_at
from clew.rollout import Home, RealFileSystem
from clew.rollout.source import MemorySource, open_source
from clew.testing.builders import ThreadBuilder
from clew.testing.homes import write_every_shape


def test_every_text_is_found_again_by_its_offset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "BLOCK", 64)
    home = Home(RealFileSystem(), tmp_path)
    write_every_shape(home)
    compared = 0
    for file in home.files():
        with contextlib.closing(open_source(home.fs, file)) as source:
            data = source.read_at(0, 1 << 24)
            said: list[Said] = []
            digest_lines(Digest(thread_id=file.thread_id), data, said)
            for entry in said:
                again = [(found.role, found.text, found.offset) for found in said_at(source, entry.offset)]
                assert (entry.role, entry.text, entry.offset) in again
                compared += 1
    assert compared > 100


def test_where_nothing_is_nothing_is_said() -> None:
    data = ThreadBuilder("0.169").turn("One?", "First.").data
    assert said_at(MemorySource(data), len(data)) == []
    assert said_at(MemorySource(data), 5) == []
    assert said_at(MemorySource(b"no end"), 0) == []
