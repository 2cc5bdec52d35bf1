"""What is kept of one file must be what reading the whole of it tells."""

from __future__ import annotations

from collections import Counter
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


def test_what_turns_show_is_told_once_in_every_recorded_file(shared: Path) -> None:
    compared = 0
    for folder in sorted(shared.glob("corpus/codex*/*/*/home")):
        home = Home(RealFileSystem(), folder)
        for file in home.files():
            source = open_source(home.fs, file)
            data = source.read_at(0, 1 << 30)
            if b"thread_rolled_back" in data:
                continue  # what was said stays in the file, and is in no turn
            try:
                meta = read_meta(read_head(home, file))
            except UnsupportedHistory:
                continue
            shown: Counter[tuple[str, str]] = Counter()
            for turn in turns(scan_forward(source), meta.history_mode, subagent_start=meta.subagent_start):
                for item in turn.items:
                    if item["type"] == "userMessage":
                        shown["user", "".join(part.get("text", "") for part in item["content"])] += 1
                    elif item["type"] in ("agentMessage", "plan"):
                        shown["agent", item["text"]] += 1
            _, said = digested(data + b"\n" if data and not data.endswith(b"\n") else data, file.thread_id)
            told = Counter((entry.role, entry.text) for entry in said)
            for text, times in shown.items():
                assert told[text] == (times if text[1].strip() else 0), (file.path, text)
            compared += 1
    assert compared > 250


def test_messages_between_agents_are_told_from_their_envelopes() -> None:
    letter: dict[str, object] = {
        "author": "/root",
        "recipient": "/root/child",
        "other_recipients": [],
        "content": "Count to three.",
    }
    text = msgspec.json.encode(letter).decode()
    built = ThreadBuilder("0.118").turn("One?", "First.")
    content = [{"type": "output_text", "text": text}]
    built.line("response_item", {"type": "message", "role": "assistant", "content": content})

    _, said = digested(built.data)

    assert [(entry.role, entry.text) for entry in said][-1] == ("agent", "Count to three.")


def test_what_a_fork_copied_is_marked() -> None:
    source = ThreadBuilder("0.142").turn("Old?", "Old.")
    fork = source.fork().turn("New?", "New.")

    digest, said = digested(fork.data, fork.id)

    assert [(entry.text, entry.copied) for entry in said] == [
        ("Old?", True),
        ("Old.", True),
        ("New?", False),
        ("New.", False),
    ]
    assert said[1].offset < digest.copied_until <= said[2].offset


def test_damaged_and_odd_lines_cost_only_themselves() -> None:
    built = ThreadBuilder("0.169").turn("One?", "First.")
    lines = built.data.splitlines()
    spaced = msgspec.json.format(lines[-1], indent=0)
    turned = msgspec.json.encode(dict(reversed(msgspec.json.decode(lines[-1]).items())))
    data = b"\n".join(
        [b"\xef\xbb\xbf" + lines[0], *lines[1:-1], b"", b"{torn", b"\xff\xfe", spaced, b" \t", turned, b""]
    )
    plain, expected = digested(built.data)

    digest, said = digested(data)

    assert [(entry.role, entry.text) for entry in said] == [(entry.role, entry.text) for entry in expected]
    assert (digest.skipped, digest.lines, digest.turns) == (2, plain.lines + 3, plain.turns)
    assert digest.weights.total + len(b"\n \t\n") == len(data)


def test_a_time_that_is_no_text_costs_its_line_at_most() -> None:
    for stamp, skipped in ((b"\xe7" * 24, 1), ("ç".encode() * 12, 0), (b"2026-07-01T12:00:00.123\0", 1)):
        digest = Digest(thread_id="a")
        line = b'{"timestamp":"%s","type":"event_msg","payload":{"type":"token_count","info":null}}\n' % stamp
        assert digest_lines(digest, line) == len(line)
        assert (digest.lines, digest.skipped) == (1, skipped)
