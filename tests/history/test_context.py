from __future__ import annotations

from typing import Any

import pytest
from written import (
    SURROUNDINGS,
    Backward,
    compacted,
    completed,
    context,
    event,
    head_of,
    item,
    message,
    meta,
    said,
    started,
    written,
)

from clew.errors import UnsupportedHistory
from clew.events import Usage
from clew.history import Context, Window, rebuild, rebuild_forward
from clew.rollout.envelope import Line, Skipped
from clew.settings import SandboxMode


def texts(found: Context) -> list[str]:
    return ["".join(part["text"] for part in one.value().get("content", [])) for one in found.items]


def turn(turn_id: str, question: str, answer: str, *told: str) -> list[Line]:
    return [
        started(turn_id),
        *(said("user", text) for text in told),
        context(turn_id),
        said("user", question),
        said("assistant", answer),
        completed(turn_id),
    ]


def test_items_follow_in_their_order_and_keep_their_bytes() -> None:
    records = written(meta(), *turn("a", "one", "1", *SURROUNDINGS), *turn("b", "two", "2"))

    found = rebuild(reversed(records), head_of(records))

    assert texts(found) == [*SURROUNDINGS, "one", "1", "two", "2"]
    assert found.items[1].raw == b'{"type":"message","role":"user","content":[{"type":"input_text","text":"one"}]}'
    assert (found.last_turn_id, found.open_turn_id) == ("b", None)
    assert found.baseline is not None
    assert found.baseline["turn_id"] == "b"


def test_system_messages_and_snapshots_never_reach_the_model() -> None:
    records = written(meta(), said("system", "old"), item("ghost_snapshot", ghost_commit={}), said("user", "hello"))

    assert texts(rebuild(reversed(records), None)) == ["hello"]


def test_a_message_between_agents_of_old_versions_becomes_an_agent_message() -> None:
    payload = {"author": "/root", "recipient": "/root/a", "content": "go", "encrypted_content": "xx"}
    records = written(meta(), Line("inter_agent_communication", payload))

    assert rebuild(reversed(records), None).request_items(openai=False) == [
        {
            "type": "agent_message",
            "author": "/root",
            "recipient": "/root/a",
            "content": [
                {"type": "input_text", "text": "go"},
                {"type": "encrypted_content", "encrypted_content": "xx"},
            ],
        }
    ]


def test_reading_stops_at_a_compaction_with_replacement_once_a_turn_followed() -> None:
    old = [line for number in range(50) for line in turn(f"o{number}", "q", "a")]
    records = written(
        meta(),
        *old,
        started("c"),
        compacted(message("user", *SURROUNDINGS), message("user", "kept"), window_number=3, window_id="w3"),
        context("c"),
        completed("c"),
        *turn("d", "two", "2"),
    )
    back = Backward(records)

    found = rebuild(back, head_of(records))

    assert back.read == 8
    assert texts(found) == [*SURROUNDINGS, "kept", "two", "2"]
    assert found.window == Window(number=3, id="w3")


def test_rollback_markers_behind_a_compaction_do_not_make_the_reading_longer() -> None:
    old = [line for number in range(50) for line in turn(f"o{number}", "q", "a")]
    records = written(
        meta(),
        *old,
        started("c"),
        compacted(message("user", "kept"), message("user", "summary")),
        completed("c"),
        *turn("d", "two", "2"),
        *turn("e", "three", "3"),
        event("thread_rolled_back", num_turns=1),
    )
    back = Backward(records)

    assert texts(rebuild(back, head_of(records))) == ["kept", "summary", "two", "2"]
    assert back.read == 13


def test_settings_that_only_an_older_turn_recorded_are_still_found() -> None:
    records = written(
        meta(),
        *turn("a", "one", "1"),
        started("b"),
        compacted(message("user", "kept")),
        completed("b"),
    )

    found = rebuild(reversed(records), head_of(records))

    assert found.recorded.model == "m"
    assert found.baseline is None


def test_a_compaction_that_leaves_the_surroundings_out_has_no_baseline_until_they_are_told_again() -> None:
    lines = [meta(), started("c"), compacted(message("user", "kept")), context("c"), completed("c")]
    again = [started("d"), said("user", *SURROUNDINGS), context("d"), said("user", "next"), completed("d")]

    assert rebuild_forward(written(*lines)).baseline is None
    told = rebuild_forward(written(*lines, *again)).baseline
    assert told is not None
    assert told["turn_id"] == "d"


def test_an_old_compaction_keeps_the_users_words_and_the_summary() -> None:
    records = written(
        meta(),
        *turn("a", "one", "1", *SURROUNDINGS),
        Line("compacted", {"message": "what happened"}),
        *turn("b", "two", "2"),
    )

    found = rebuild(reversed(records), head_of(records))

    assert texts(found) == ["one", "what happened", "two", "2"]
    assert found.window == Window(number=1)


def test_a_number_in_place_of_the_window_id_is_the_windows_number() -> None:
    records = written(meta(), compacted(message("user", "kept"), window_id=7))

    assert rebuild(reversed(records), head_of(records)).window == Window(number=7)


def test_the_first_window_is_the_one_of_the_metadata() -> None:
    records = written(meta(context_window={"window_id": "w0"}), *turn("a", "one", "1"))

    assert rebuild(reversed(records), head_of(records)).window == Window(number=0, id="w0", first_id="w0")


def test_a_rollback_takes_the_messages_about_the_surroundings_with_it() -> None:
    records = written(
        meta(),
        *turn("a", "one", "1", *SURROUNDINGS),
        *turn("b", "two", "2", "<environment_context>changed</environment_context>"),
        event("thread_rolled_back", num_turns=1),
    )

    found = rebuild(reversed(records), head_of(records))

    assert texts(found) == [*SURROUNDINGS, "one", "1"]
    assert found.baseline is not None
    assert found.baseline["turn_id"] == "a"


def test_a_rollback_of_everything_keeps_the_first_surroundings() -> None:
    records = written(
        meta(),
        *turn("a", "one", "1", *SURROUNDINGS),
        *turn("b", "two", "2"),
        event("thread_rolled_back", num_turns=9),
    )

    found = rebuild(reversed(records), head_of(records))

    assert texts(found) == [*SURROUNDINGS]
    assert found.baseline is None


def test_a_rollback_restores_the_world_as_it_was_told_before() -> None:
    state = {"model": "m", "environments": {"cwd": "/w"}}
    records = written(
        meta(),
        started("a"),
        said("user", *SURROUNDINGS),
        Line("world_state", {"full": True, "state": state}),
        said("user", "one"),
        completed("a"),
        started("b"),
        Line("world_state", {"full": False, "state": {"model": "n", "environments": {"cwd": None}}}),
        said("user", "two"),
        completed("b"),
    )

    assert rebuild(reversed(records), None).world_state == {"model": "n", "environments": {}}
    rolled = written(*_lines(records), event("thread_rolled_back", num_turns=1))
    assert rebuild(reversed(rolled), None).world_state == state


def _lines(records: list[Any]) -> list[Line]:
    return [Line(record.type, record.payload) for record in records]


def test_a_compaction_clears_the_world() -> None:
    records = written(
        meta(),
        Line("world_state", {"full": True, "state": {"a": 1}}),
        compacted(message("user", "kept")),
        Line("world_state", {"full": False, "state": {"a": 2}}),
    )

    assert rebuild(reversed(records), None).world_state is None


def test_a_turn_that_never_ended_is_open() -> None:
    records = written(meta(), *turn("a", "one", "1"), started("b"), said("user", "two"))

    found = rebuild(reversed(records), None)

    assert (found.last_turn_id, found.open_turn_id) == ("b", "b")


def test_a_late_end_of_another_turn_leaves_the_open_one_open() -> None:
    records = written(meta(), started("a"), started("b"), completed("a"))

    assert rebuild(reversed(records), None).open_turn_id == "b"


def settings(provider: str, **members: Any) -> Line:
    applied = {"model": "m2", "model_provider_id": provider, "cwd": "/w2", "permission_profile": {"type": "disabled"}}
    return event("thread_settings_applied", thread_settings={**applied, **members})


def test_settings_applied_after_the_last_turn_are_the_recorded_ones() -> None:
    records = written(meta(model_provider="p1"), *turn("a", "one", "1"), settings("p2"))

    recorded = rebuild(reversed(records), head_of(records)).recorded

    assert (recorded.cwd, recorded.model, recorded.provider) == ("/w2", "m2", "p2")
    assert recorded.sandbox is not None
    assert recorded.sandbox.mode is SandboxMode.FULL_ACCESS


def test_the_provider_outlives_the_turns_after_it_was_applied() -> None:
    records = written(meta(model_provider="p1"), settings("p2"), *turn("a", "one", "1"))

    recorded = rebuild(reversed(records), head_of(records)).recorded

    assert (recorded.model, recorded.provider) == ("m", "p2")


def test_applied_settings_before_a_compaction_count_until_another_program_wrote_on() -> None:
    before = [meta(model_provider="p1"), settings("p2"), started("a"), compacted(message("user", "kept"))]
    cut = written(*before, context("a"))
    went_on = written(*before, context("a"), completed("a"))
    repeated = written(*before, context("a"), settings("p3"), completed("a"))

    providers = [rebuild(reversed(lines), head_of(lines)).recorded.provider for lines in (cut, went_on, repeated)]
    assert providers == ["p2", "p1", "p3"]


def test_the_usage_is_that_of_the_newest_record() -> None:
    counts = {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7}
    more = {**counts, "total_tokens": 70}
    records = written(
        meta(),
        event("token_count", info={"total_token_usage": counts, "last_token_usage": counts}),
        Line("token_usage_record", {"usage": counts, "thread_token_usage": more}),
        event("token_count", info=None),
    )

    found = rebuild(reversed(records), None)

    assert found.usage == Usage(input_tokens=5, output_tokens=2, total_tokens=70)
    assert found.last_usage == Usage(input_tokens=5, output_tokens=2, total_tokens=7)


def test_the_estimate_is_the_last_count_and_what_came_since() -> None:
    counts = {"total_tokens": 1000}
    records = written(
        meta(),
        said("user", "go"),
        item("function_call", name="f", arguments="{}", call_id="c"),
        item("function_call_output", call_id="c", output="x" * 4000),
        event("token_count", info={"total_token_usage": counts, "last_token_usage": counts}),
        said("user", "y" * 400),
    )

    estimate = rebuild(reversed(records), None).estimate_tokens()

    assert 1000 + 1000 + 100 <= estimate <= 1000 + 1000 + 100 + 100


def test_an_unknown_history_mode_is_refused() -> None:
    records = written(meta(history_mode="holographic"))

    with pytest.raises(UnsupportedHistory, match="holographic"):
        rebuild(reversed(records), head_of(records))


def test_without_metadata_the_ordinals_tell_the_history_mode() -> None:
    records = written(said("user", "hello"), ordinals=True)

    assert rebuild(reversed(records), None).history_mode == "paginated"
    assert rebuild(reversed(written(said("user", "hello"))), None).history_mode == "legacy"


def test_lines_that_cannot_be_used_are_counted() -> None:
    broken = Skipped(why="cut last line")
    records = [*written(meta(), Line("response_item", "text"), Line("compacted", 5)), broken]

    found = rebuild(reversed(records), None)

    assert (found.skipped, found.items) == (3, [])


def test_a_live_session_and_its_log_agree() -> None:
    live = Context()
    live.turn_started("a")
    live.add(message("user", *SURROUNDINGS))
    live.baseline = {"turn_id": "a"}
    live.world_state = {"cwd": "/w"}
    live.add(b'{"type":"function_call","name":"f","arguments":"{}","call_id":"c","id":"fc_1"}')

    assert [call.call_id for call in live.open_calls()] == ["c"]
    live.add({"type": "function_call_output", "call_id": "c", "output": "ok"})
    live.add_usage(Usage(total_tokens=10))
    live.add_usage(Usage(total_tokens=20))
    assert live.open_calls() == []
    assert live.usage.total_tokens == 30
    assert live.open_turn_id == "a"
    live.replace([message("user", "kept")])
    live.turn_ended()
    assert (texts(live), live.baseline, live.world_state, live.open_turn_id) == (["kept"], None, None, None)


def test_what_is_no_response_item_is_refused() -> None:
    with pytest.raises(ValueError, match="a type"):
        Context().add(b"[]")
