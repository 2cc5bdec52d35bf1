"""Tokens and turns of files: every era, told once, however often a log repeats them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from written import completed, context, event, item, meta, said, started, written

from clew.history.usage import Tokens, UsageTally, count_once
from clew.rollout import Home, MemorySource, RealFileSystem, open_source, payload_kind, scan_forward
from clew.rollout.envelope import Line, Record, Skipped, decode_line
from clew.testing import ERAS, Call, Era, ThreadBuilder
from clew.testing.homes import write_every_shape

TURN = "01a1f853-89ad-7dd1-9931-b57fb7397706"
ANSWER = Tokens(80, 0, 0, 40, 0, 120)


def tally_of(records: Iterable[Record | Skipped]) -> UsageTally:
    tally = UsageTally()
    for record in records:
        if isinstance(record, Record):
            tally.add(record)
    return tally


def of(*lines: Line) -> UsageTally:
    return tally_of(written(meta(), *lines))


def built(thread: ThreadBuilder) -> list[UsageTally]:
    return [tally_of(scan_forward(MemorySource(segment.data))) for segment in thread.segments]


def usage(total: int, *, cached: int = 0, written: int = 0, reasoning: int = 0) -> dict[str, int]:
    return {
        "input_tokens": total * 2 // 3,
        "cached_input_tokens": cached,
        "cache_write_input_tokens": written,
        "output_tokens": total - total * 2 // 3,
        "reasoning_output_tokens": reasoning,
        "total_tokens": total,
    }


def count(total: int, last: int) -> Line:
    return event("token_count", info={"total_token_usage": usage(total), "last_token_usage": usage(last)})


def spent(total: int) -> Line:
    return Line("token_usage_record", {"turn_id": TURN, "usage": usage(total), "thread_token_usage": usage(total)})


def totals(tallies: Sequence[UsageTally]) -> tuple[int, int]:
    """Turns and tokens of several files, each once."""
    found = list(count_once(tallies))
    return sum(turn.is_turn for _, turn in found), sum(turn.tokens.total for _, turn in found)


# -- one file


@pytest.mark.parametrize("era", ERAS)
def test_each_answer_of_a_model_counts_once_in_every_era(era: Era) -> None:
    thread = ThreadBuilder(era, cwd="/p", model="gpt-5", provider="mock")
    thread.turn("First?", "One.").turn("Second?", "Two.", calls=[Call("ls", "a.txt\n"), Call("pwd", "/p\n")])

    (tally,) = built(thread)

    answers = [0, 0] if era == "0.29" else [1, 3]
    found = [
        (turn.is_turn, tally.names[turn.model], tally.names[turn.cwd], tally.names[turn.provider], turn.tokens.total)
        for turn in tally.turns
    ]
    model, cwd = ("", "") if era == "0.29" else ("gpt-5", "/p")
    provider = "mock" if ERAS.index(era) >= ERAS.index("0.60") else ""
    assert found == [(True, model, cwd, provider, 120 * number) for number in answers]
    assert tally.tokens.input == 80 * sum(answers)


def test_all_kinds_of_tokens_are_told() -> None:
    both = {"total_token_usage": usage(120), "last_token_usage": usage(120, cached=40, written=7, reasoning=3)}

    tally = of(started(TURN), event("token_count", info=both), completed(TURN))

    assert tally.tokens == Tokens(80, 40, 7, 40, 3, 120)


def test_an_event_that_repeats_the_sum_spends_nothing() -> None:
    tally = of(started(TURN), count(120, 120), count(120, 120), count(240, 120), count(240, 120))

    assert tally.tokens.total == 240


def test_a_sum_that_grows_by_more_than_the_last_answer_tells_of_answers_without_an_event() -> None:
    tally = of(started(TURN), count(120, 120), count(600, 120))

    assert tally.tokens.total == 600


def test_of_an_inherited_sum_only_the_last_answer_counts() -> None:
    assert of(started(TURN), count(4800, 120)).tokens.total == 120


def test_an_estimate_of_the_context_spends_nothing() -> None:
    estimate = usage(0) | {"total_tokens": 5349}
    both = {"total_token_usage": usage(120), "last_token_usage": estimate}
    full = {"total_token_usage": estimate, "last_token_usage": estimate}

    tally = of(started(TURN), count(120, 120), event("token_count", info=both), event("token_count", info=full))

    assert tally.tokens.total == 120


def test_a_program_that_begins_its_sum_anew_is_believed() -> None:
    nothing = event("token_count", info=None)

    assert of(count(120, 120), nothing, count(120, 120)).tokens.total == 240
    assert of(count(120, 120), count(240, 120), count(30, 30), count(60, 30)).tokens.total == 300


def test_what_a_record_told_the_event_behind_it_does_not_tell_again() -> None:
    tally = of(started(TURN), spent(120), count(480, 120), spent(60), completed(TURN), started("2"), count(540, 60))

    assert [turn.tokens.total for turn in tally.turns] == [180, 0]


def test_a_record_goes_to_the_turn_that_it_names() -> None:
    tally = of(started(TURN), started("other"), spent(120))

    assert [turn.tokens.total for turn in tally.turns] == [120, 0]


def test_tokens_in_front_of_every_turn_are_of_no_turn() -> None:
    (turn,) = of(count(120, 120)).turns

    assert (turn.is_turn, turn.tokens.total) == (False, 120)


def test_a_turn_has_the_model_and_folder_it_ran_with() -> None:
    lines = [
        started("1"),
        context("1", model="small", cwd="/a"),
        count(120, 120),
        completed("1"),
        event(
            "thread_settings_applied",
            thread_settings={"model": "large", "cwd": "/b", "model_provider_id": "elsewhere"},
        ),
        started("2"),
        count(240, 120),
    ]

    tally = of(*lines)

    found = [(tally.names[turn.model], tally.names[turn.cwd], tally.names[turn.provider]) for turn in tally.turns]
    assert found == [("small", "/a", ""), ("large", "/b", "elsewhere")]


def test_steering_is_no_turn_and_a_compaction_is_one() -> None:
    tally = of(started("1"), event("user_message", message="a"), event("user_message", message="b"), completed("1"))
    compacted = ThreadBuilder("0.142").turn("First?").compact("A summary.")

    assert len(tally.turns) == 1
    assert totals(built(compacted)) == (2, 240)


def test_what_was_taken_back_was_spent() -> None:
    rolled_back = ThreadBuilder("0.118").turn("First?").turn("Second?").rollback(1).turn("Third?")
    reverted = ThreadBuilder("0.169").turn("First?").turn("Second?").revert(1).turn("Third?")

    assert totals(built(rolled_back)) == (3, 360)
    assert totals(built(reverted)) == (3, 360)


def test_damaged_and_odd_lines_tell_nothing() -> None:
    lines = [
        Line("token_usage_record", {"usage": "much"}),
        Line("token_usage_record", None),
        event("token_count", info=[]),
        event("token_count", info={"total_token_usage": {"input_tokens": -5, "output_tokens": 1 << 63}}),
        event("task_started", turn_id=7),
        Line("turn_context", {"model": 5}),
        Line("session_meta", {"id": None}),
    ]

    tally = of(*lines)

    assert msgspec.msgpack.decode(msgspec.msgpack.encode(tally), type=UsageTally) == tally
    assert tally.tokens.input == 0


def test_a_turn_began_when_its_id_says_so_and_not_when_it_was_copied() -> None:
    assert [turn.started for turn in of(started("of no time")).turns] == [1_782_907_200]
    assert [turn.started for turn in of(started("019fa213-89ad-7dd1-9931-b57fb7397706")).turns] == [1_782_907_200]
    assert [turn.started for turn in of(started("0196f213-89ad-7dd1-9931-b57fb7397706")).turns] == [1_747_818_088]
    assert [turn.started for turn in of(started("of no time", started_at=1_700_000_000)).turns] == [1_700_000_000]


# -- in pieces


def every_shape(tmp_path: Path) -> list[bytes]:
    home = Home(RealFileSystem(), tmp_path)
    return [segment.data for thread in write_every_shape(home).values() for segment in thread.segments]


def test_a_line_as_it_stands_tells_the_same_as_a_record(tmp_path: Path) -> None:
    for data in every_shape(tmp_path):
        by_record, by_line = UsageTally(), UsageTally()
        for line in data.splitlines():
            record = decode_line(line)
            if isinstance(record, Skipped):
                continue
            by_record.add(record)
            inner = payload_kind(record.payload) if record.type in ("event_msg", "response_item") else None
            by_line.take(inner or record.type, line, at=milliseconds(record.timestamp))
        assert by_line == by_record


def milliseconds(stamp: str | None) -> int | None:
    from datetime import datetime

    return None if stamp is None else int(datetime.fromisoformat(stamp).timestamp() * 1000)


answers = st.one_of(
    st.builds(started, st.sampled_from(["1", "2", TURN])),
    st.builds(completed, st.sampled_from(["1", "2"])),
    st.builds(event, st.just("user_message"), message=st.sampled_from("ab")),
    st.builds(said, st.just("assistant"), st.sampled_from("ab")),
    st.builds(count, st.integers(0, 5), st.integers(0, 5)),
    st.builds(spent, st.integers(0, 5)),
    st.just(event("token_count", info=None)),
    st.builds(context, st.just(TURN), model=st.sampled_from("xy")),
    st.just(meta(id="t-0")),
    st.just(item("reasoning", encrypted_content="abc")),
)


@given(st.lists(answers, max_size=30), st.data())
def test_a_file_counted_in_pieces_counts_the_same_as_at_once(lines: list[Line], data: st.DataObject) -> None:
    records = written(meta(), *lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(records)), max_size=3)))
    pieces = UsageTally()
    for begin, end in zip([0, *cuts], [*cuts, len(records)], strict=True):
        for record in records[begin:end]:
            assert isinstance(record, Record)
            pieces.add(record)
        pieces = msgspec.msgpack.decode(msgspec.msgpack.encode(pieces), type=UsageTally)

    assert pieces == tally_of(records)


# -- several files


@pytest.mark.parametrize("era", ERAS[3:])
def test_a_fork_of_a_fork_counts_once(era: Era) -> None:
    source = ThreadBuilder(era).turn("First?", "One.").turn("Second?", "Two.")
    child = source.fork().turn("Third?", "Three.")
    grandchild = child.fork().turn("Fourth?", "Four.")
    twin = child.fork(before=2).turn("Third, otherwise?", "Three B.")

    tallies = [tally for thread in (grandchild, source, twin, child) for tally in built(thread)]

    assert totals(tallies) == (5, 600)
    assert sorted(tallies[place].thread_id for place, _ in count_once(tallies)) == sorted(
        [source.id, source.id, child.id, grandchild.id, twin.id]
    )


@pytest.mark.parametrize("era", ["0.60", "0.142"])
def test_the_turns_of_a_source_that_is_gone_count_once_in_its_copies(era: Era) -> None:
    source = ThreadBuilder(era).turn("First?", "One.")
    one, other = source.fork().turn("A?", "A."), source.fork().turn("B?", "B.")

    assert totals(built(one) + built(other)) == (3, 360)


def test_the_same_question_asked_again_in_a_copy_is_another_turn() -> None:
    source = ThreadBuilder("0.60").turn("First?", "One.").turn("Again?", "Two.")
    child = source.fork(before=1).turn("Again?", "Something else.")

    assert totals(built(source) + built(child)) == (3, 360)


def test_two_threads_that_begin_alike_are_two() -> None:
    one, other = (ThreadBuilder("0.60", seed=seed).turn("Hello?", "Hello.") for seed in (1, 2))

    assert totals(built(one) + built(other)) == (2, 240)


def test_a_review_that_two_threads_tell_of_counts_where_it_was_spent() -> None:
    parent = written(meta(), started(TURN), completed("another"))
    review = written(meta(id="t-2", timestamp="2026-07-01T12:00:01.000Z"), started(TURN), count(120, 120))
    tallies = [tally_of(parent), tally_of(review)]

    found = [(place, turn.is_turn, turn.tokens) for place, turn in count_once(tallies)]

    assert found == [(1, True, ANSWER)]


def test_the_same_file_twice_counts_once() -> None:
    (tally,) = built(ThreadBuilder("0.169").turn("First?").turn("Second?"))

    assert totals([tally, tally]) == (2, 240)
    assert totals([of(count(120, 120)), of(count(120, 120))]) == (0, 120)


# -- recorded homes


def spendings(lines: Iterable[bytes]) -> Iterable[tuple[object, int]]:
    """The slow reading: every answer of a model by what makes it one, with its tokens."""
    turn: object = None
    before: Any = None
    recorded = False
    for number, line in enumerate(lines):
        try:
            record: Any = json.loads(line)
        except ValueError:
            continue
        payload: Any = record.get("payload") or {}
        if record.get("type") == "token_usage_record":
            recorded = True
            yield (payload["turn_id"], json.dumps(payload["turn_token_usage"])), payload["usage"]["total_tokens"]
        elif payload.get("type") == "task_started":
            turn = payload["turn_id"]
        elif payload.get("type") == "token_count":
            info = payload["info"]
            now = info and info["total_token_usage"]
            told = info and info["last_token_usage"]["output_tokens"] + info["last_token_usage"]["input_tokens"]
            if now and now != before and told and not recorded:
                yield (turn or (id(lines), number), json.dumps(now)), info["last_token_usage"]["total_tokens"]
            before, recorded = now, False


def test_recorded_homes_count_what_their_models_answered(shared: Path) -> None:
    compared = 0
    for folder in sorted(shared.glob("corpus/codex*/*/*/home")):
        home = Home(RealFileSystem(), folder)
        tallies: list[UsageTally] = []
        oracle: dict[object, int] = {}
        for file in home.files():
            source = open_source(home.fs, file)
            tallies.append(tally_of(scan_forward(source)))
            lines = source.read_at(0, 1 << 26).split(b"\n")
            oracle.update(spendings(lines))
        assert totals(tallies)[1] == sum(oracle.values()), folder
        compared += bool(oracle)
    assert compared > 150


def test_a_recorded_thread_spent_what_its_own_program_kept_in_its_database(shared: Path) -> None:
    """Where the whole thread stands in one file, and its program did not lose count."""
    compared = 0
    for golden in sorted(shared.glob("corpus/codex*/*/*/golden/state.*.json")):
        home = Home(RealFileSystem(), golden.parent.parent / "home")
        for row in json.loads(golden.read_text())["threads"]:
            files = home.find(row["id"])
            if files is None or len(files.segments) > 1 or not row.get("tokens_used"):
                continue
            records = [one for one in scan_forward(open_source(home.fs, files.current)) if isinstance(one, Record)]
            if any(b'"history_base"' in bytes(one.payload) for one in records[:1]):
                continue
            found = tally_of(records).tokens.total
            if any(one.type == "token_usage_record" for one in records):
                assert found >= row["tokens_used"], golden  # remote compactions and killed turns are in the log alone
            else:
                assert found == row["tokens_used"], golden
            compared += 1
    assert compared > 50
