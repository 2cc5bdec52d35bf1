from __future__ import annotations

import pytest
from written import Backward, context, event, head_of, meta, said, written

from clew.errors import UnsupportedHistory
from clew.history import ThreadMeta, preview_text, read_meta, summarise, summarise_head
from clew.rollout.envelope import Line


def user(text: str, **members: object) -> Line:
    return event("user_message", message=text, **members)


def preview(*lines: Line) -> str | None:
    records = written(meta(), *lines)
    return summarise(head_of(records), records).preview


def test_the_preview_is_the_first_user_message() -> None:
    assert preview(said("user", "raw"), user(" one "), user("two")) == "one"
    content = [{"type": "text", "text": "one"}]
    assert (
        preview(event("item_completed", turn_id="a", item={"type": "UserMessage", "id": "u", "content": content}))
        == "one"
    )


def test_a_goal_stands_in_for_a_missing_message() -> None:
    goal = event("thread_goal_updated", thread_id="t", goal={"objective": "ship it", "status": "active"})

    assert preview(goal) == "ship it"
    assert preview(goal, user("one")) == "one"


def test_nothing_said_is_no_preview() -> None:
    assert preview(event("task_started", turn_id="a"), said("user", "raw")) is None


def test_only_files_without_events_show_what_the_model_saw() -> None:
    assert preview(said("user", "<environment_context>x</environment_context>"), said("user", "raw")) == "raw"


def test_the_users_words_stand_behind_the_editors_marker() -> None:
    assert preview_text("# Context\n\n## My request for Codex:\n fix it \n") == "fix it"
    assert preview_text(" ", images=True) == "[Image]"
    assert preview_text(" ") is None


def test_a_summary_tells_the_settings_and_the_origin() -> None:
    spawn = {"subagent": {"thread_spawn": {"parent_thread_id": "p", "depth": 1}}}
    records = written(
        meta(
            source=spawn,
            forked_from_id="f",
            model_provider="mp",
            originator="o",
            git={"branch": "main", "commit_hash": "c", "repository_url": "r"},
        ),
        context("a", model="m1"),
        user("one"),
        event("thread_settings_applied", thread_settings={"model": "m2", "cwd": "/later"}),
    )

    found = summarise(head_of(records), records)

    assert (found.preview, found.cwd, found.model) == ("one", "/later", "m2")
    kept = found.meta
    assert (kept.parent_id, kept.forked_from, kept.source) == ("p", "f", "subagent")
    assert (kept.provider, kept.branch, kept.commit, kept.repository) == ("mp", "main", "c", "r")
    assert (kept.id, kept.session_id, kept.cli_version) == ("t-1", "t-1", "1")


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("cli", "cli"),
        ({"custom": "atlas"}, "atlas"),
        ({"subagent": "review"}, "subagent:review"),
        ({"subagent": {"other": "x"}}, "subagent:x"),
        ({"internal": "memory_consolidation"}, "internal:memory_consolidation"),
        (None, None),
    ],
)
def test_sources_become_one_word(source: object, word: str | None) -> None:
    assert read_meta(head_of(written(meta(source=source)))).source == word


def test_the_cheap_summary_stops_when_it_knows_enough() -> None:
    records = written(meta(), context("a", model="m"), user("one"), *[user("more")] * 100)
    reading = Backward(records[::-1])

    found = summarise_head(head_of(records), reading)

    assert (found.preview, found.model, reading.read) == ("one", "m", 3)


def test_the_cheap_summary_gives_up_after_its_limit() -> None:
    records = written(meta(), *[said("assistant", "x")] * 300, user("late"))

    assert summarise_head(head_of(records), records).preview is None
    assert summarise(head_of(records), records).preview == "late"


def test_odd_metadata_costs_only_what_is_odd() -> None:
    odd = read_meta(head_of(written(meta(id=5, git="x", base_instructions="plain", history_base={"thread_id": "b"}))))

    assert (odd.id, odd.branch, odd.base_instructions, odd.base) == (None, None, "plain", None)
    assert read_meta(None) == ThreadMeta()


def test_an_unknown_history_mode_is_refused_with_its_file() -> None:
    with pytest.raises(UnsupportedHistory, match=r"/x\.jsonl.*'holographic'"):
        summarise(head_of(written(meta(history_mode="holographic"))), [], path="/x.jsonl")
