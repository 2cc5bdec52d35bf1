"""Truncation, compaction, contextual messages and world state: the small rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from written import SURROUNDINGS, message

from clew.history import (
    SUMMARY_PREFIX,
    TruncationPolicy,
    advance,
    diff,
    is_contextual,
    is_summary,
    is_user_boundary,
    kept_messages,
    merge,
    replacement_history,
    summary_message,
    summary_text,
    truncate_middle,
    truncate_output,
)
from clew.history.payload import path_text


def test_a_text_within_its_budget_is_untouched() -> None:
    assert truncate_middle("x" * 12, 12, "bytes") == "x" * 12


def test_head_and_tail_stay_and_the_marker_counts_characters() -> None:
    assert truncate_middle("a" * 50 + "b" * 50, 20, "bytes") == "a" * 10 + "…80 chars truncated…" + "b" * 10


def test_token_policies_count_four_bytes_each() -> None:
    assert truncate_middle("a" * 50 + "b" * 50, 5, "tokens") == "a" * 10 + "…20 tokens truncated…" + "b" * 10


def test_cuts_fall_between_characters() -> None:
    assert truncate_middle("ü" * 10, 6, "bytes") == "ü…8 chars truncated…ü"


@given(st.text(), st.integers(0, 60))
def test_what_stays_is_a_prefix_and_a_suffix_within_the_budget(text: str, budget: int) -> None:
    short = truncate_middle(text, budget, "bytes")
    if short != text:
        head, _, tail = short.rpartition(" chars truncated…")[0].partition("…")[0], "", ""
        tail = short.rpartition(" chars truncated…")[2]
        assert text.endswith(tail)
        assert text.startswith(head) or "…" in text
        assert len(tail.encode("utf-8", "surrogatepass")) <= budget - budget // 2


def test_the_default_policy_allows_a_fifth_more() -> None:
    assert truncate_output("x" * 12_000) == "x" * 12_000
    assert truncate_output("x" * 12_001) == "x" * 6_000 + "…1 chars truncated…" + "x" * 6_000


def test_the_text_parts_of_an_output_share_one_budget() -> None:
    image = {"type": "input_image", "image_url": "u"}
    parts = [{"type": "input_text", "text": letter * 8} for letter in "abc"]

    assert truncate_output([parts[0], image, parts[1], parts[2], image], TruncationPolicy("bytes", 10)) == [
        parts[0],
        image,
        {"type": "input_text", "text": "bb…4 chars truncated…bb"},
        image,
        {"type": "input_text", "text": "[omitted 1 text items ...]"},
    ]


def texts(items: list[dict[str, Any]]) -> list[list[str]]:
    return [[part["text"] for part in item["content"]] for item in items]


def test_the_users_own_words_are_kept_newest_first_within_the_budget() -> None:
    history = [
        message("user", *SURROUNDINGS),
        message("user", "a" * 40),
        message("assistant", "no"),
        message("user", f"{SUMMARY_PREFIX}\nold"),
        message("user", "b" * 40),
        message("user", "c" * 40),
    ]

    assert texts(kept_messages(history, 25)) == [
        ["a" * 10, "…5 tokens truncated…", "a" * 10],
        ["b" * 40],
        ["c" * 40],
    ]
    assert texts(kept_messages(history, 20)) == [["b" * 40], ["c" * 40]]


def test_a_shortened_message_is_cut_across_its_parts() -> None:
    parts = ["a" * 10_000, "b" * 10_000, "c" * 20_000, "d" * 10_000, "e" * 10_000]

    assert texts(kept_messages([message("user", *parts)], 8_750)) == [
        ["a" * 10_000, "b" * 7_500, "…6250 tokens truncated…", "d" * 7_500, "e" * 10_000]
    ]


def test_images_do_not_come_along() -> None:
    item = message("user", "look")
    item["content"].append({"type": "input_image", "image_url": "u"})

    assert kept_messages([item]) == [message("user", "look")]


def test_a_new_window_ends_with_the_summary_and_keeps_the_running_prompt_behind_the_surroundings() -> None:
    history = [message("user", "one"), message("assistant", "1"), message("user", "two")]
    told = [message("user", *SURROUNDINGS)]
    summary = summary_text("all is well ")

    assert summary == f"{SUMMARY_PREFIX}\nall is well"
    assert replacement_history(history, summary, context=told) == [
        message("user", "one"),
        *told,
        message("user", "two"),
        message("user", summary),
    ]
    assert replacement_history(history, summary, context=told, place="start")[:2] == [*told, message("user", "one")]
    assert replacement_history([], summary, context=told) == [*told, summary_message(summary)]


def test_an_empty_summary_says_so() -> None:
    assert summary_text(" ") == f"{SUMMARY_PREFIX}\n(no summary available)"
    assert summary_message("")["content"][0]["text"] == "(no summary available)"
    assert is_summary(message("user", summary_text("x")))
    assert not is_summary(message("assistant", summary_text("x")))


def test_messages_about_the_surroundings_are_told_from_peoples_words() -> None:
    contextual = [
        message("user", *SURROUNDINGS),
        message("user", "# AGENTS.md instructions for /w\n<INSTRUCTIONS>\nx\n</INSTRUCTIONS>"),
        message("user", "hello", " <TURN_ABORTED>\nx</turn_aborted>\n"),
        message("user", '<codex_internal_context source="goal">x</codex_internal_context>'),
        message("user", "Warning: apply_patch was requested via exec_command."),
        message("developer", "<permissions instructions>x"),
    ]
    own = [
        message("user", "what does <environment_context> mean?"),
        message("user", "<environment_context> is what?"),
        message("user", "# A heading"),
        message("developer", "Speak French."),
        message("assistant", *SURROUNDINGS),
    ]

    assert [is_contextual(item) for item in (*contextual, *own)] == [True] * 6 + [False] * 5


def test_turns_of_the_user_begin_with_their_words_or_another_agents() -> None:
    envelope = '{"author":"/root","recipient":"/root/a","other_recipients":[],"content":"go","trigger_turn":true}'

    assert is_user_boundary(message("user", "hello"))
    assert is_user_boundary({"type": "agent_message", "author": "a", "recipient": "b", "content": []})
    assert is_user_boundary(message("assistant", envelope))
    assert not is_user_boundary(message("assistant", '{"a": 1}'))
    assert not is_user_boundary(message("user", *SURROUNDINGS))
    assert not is_user_boundary({"type": "function_call", "call_id": "c"})


def test_a_patch_without_a_state_is_ignored_and_what_is_neither_clears() -> None:
    assert advance(None, {"full": False, "state": {"a": 1}}) is None
    assert advance({"a": 1}, {"full": False, "state": {"a": None, "b": {"c": 1}}}) == {"b": {"c": 1}}
    assert advance({"a": 1}, {"full": True, "state": {"b": 2}}) == {"b": 2}
    assert advance({"a": 1}, {"full": False, "state": 5}) is None


_VALUES = st.recursive(
    st.integers(0, 2) | st.text(max_size=2) | st.lists(st.none(), max_size=1),
    lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
_STATES = st.dictionaries(st.sampled_from("abc"), _VALUES, max_size=3)


@given(_STATES, _STATES)
def test_a_difference_leads_from_one_state_to_the_other(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert merge(old, diff(old, new)) == new
    assert (diff(old, new) == {}) == (old == new)


@pytest.mark.parametrize(
    ("value", "path"),
    [("/a b", "/a b"), ("file:///a%20b", "/a b"), ("file://[/a", None), ("file://", None), ("", None), (3, None)],
)
def test_a_path_may_stand_as_an_address(value: object, path: str | None) -> None:
    assert path_text(value) == path
