"""What is kept of one file must be what reading the whole of it tells."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clew.errors import UnsupportedHistory
from clew.history import read_meta, summarise, turns
from clew.history.digest import Digest, digest_lines
from clew.history.said import Said
from clew.rollout import Home, RealFileSystem, read_head
from clew.rollout.envelope import Skipped
from clew.rollout.scan import scan_forward
from clew.rollout.source import MemorySource, open_source
from clew.testing.builders import ERAS, Call, Era, ThreadBuilder


def thread(era: Era) -> ThreadBuilder:
    built = ThreadBuilder(era).turn("Where is it?", "Here.", calls=[Call("rg -n needle", output="a.py:1")])
    return built.turn("And now?", "Gone.")


def digested(data: bytes, thread_id: str | None = None) -> tuple[Digest, list[Said]]:
    digest, said = Digest(thread_id=thread_id), list[Said]()
    assert digest_lines(digest, data, said) == data.rfind(b"\n") + 1
    return digest, said


@pytest.mark.parametrize("era", ERAS)
def test_each_text_is_told_once_in_every_era(era: Era) -> None:
    _, said = digested(thread(era).data)

    assert [(entry.role, entry.text) for entry in said] == [
        ("user", "Where is it?"),
        ("command", "rg -n needle"),
        ("agent", "Here."),
        ("user", "And now?"),
        ("agent", "Gone."),
    ]


@pytest.mark.parametrize("era", ERAS)
def test_a_digest_says_what_the_whole_log_says(era: Era) -> None:
    data = thread(era).data
    records = list(scan_forward(MemorySource(data)))
    digest, _ = digested(data)
    head = next(record for record in records if not isinstance(record, Skipped))
    whole = summarise(head, records)

    assert (digest.preview, digest.model, digest.cwd) == (whole.preview, whole.model, whole.cwd)
    assert digest.meta == msgspec.structs.replace(whole.meta, raw={}, base_instructions=None)
    assert digest.turns == len(turns(records, whole.meta.history_mode)) == 2
    assert (digest.offset, digest.lines, digest.skipped) == (len(data), len(records), 0)


@settings(max_examples=60)
@given(era=st.sampled_from(ERAS), cuts=st.lists(st.integers(0, 20_000), max_size=6), data=st.data())
def test_pieces_give_the_same_as_the_whole(era: Era, cuts: list[int], data: st.DataObject) -> None:
    built = thread(era)
    if data.draw(st.booleans()):
        built.rollback() if era in ("0.79", "0.104", "0.118") else built.raw(b"{broken}\n\n")
    whole = built.data
    digest, said = Digest(), list[Said]()
    for cut in [*sorted(cut for cut in cuts if cut < len(whole)), len(whole)]:
        digest_lines(digest, whole[digest.offset : cut], said)
        digest = msgspec.msgpack.decode(msgspec.msgpack.encode(digest), type=Digest)

    assert (digest, said) == digested(whole)


def test_every_recorded_file_is_digested_as_it_is_read(shared: Path) -> None:
    compared = 0
    for folder in sorted(shared.glob("corpus/codex*/*/*/home")):
        home = Home(RealFileSystem(), folder)
        for file in home.files():
            source = open_source(home.fs, file)
            data = source.read_at(0, 1 << 30)
            records = list(scan_forward(source))
            head = read_head(home, file)
            digest, _ = digested(data + b"\n" if data and not data.endswith(b"\n") else data, file.thread_id)
            try:
                meta = read_meta(head)
            except UnsupportedHistory:
                assert digest.unsupported is not None
                continue
            whole = summarise(head, records)
            assert (digest.preview, digest.model, digest.cwd) == (whole.preview, whole.model, whole.cwd), file.path
            if head is not None:
                assert digest.meta == msgspec.structs.replace(meta, raw={}, base_instructions=None), file.path
            expected = turns(records, meta.history_mode, subagent_start=meta.subagent_start)
            assert digest.turns == len(expected), file.path
            compared += 1
    assert compared > 250
