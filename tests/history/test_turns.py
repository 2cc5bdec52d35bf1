from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from written import Backward, compacted, completed, event, item, message, meta, said, started, written

from clew.events import TurnError
from clew.history import Turn, turns, turns_page
from clew.rollout.envelope import Line


def user(text: str, **members: Any) -> Line:
    return event("user_message", message=text, images=[], local_images=[], text_elements=[], **members)


def agent(text: str) -> Line:
    return event("agent_message", message=text)


def done(turn: str, kind: str, item_id: str, **members: Any) -> Line:
    stored = {"type": kind, "id": item_id, **members}
    return event("item_completed", thread_id="t-1", turn_id=turn, item=stored, started_at_ms=5, completed_at_ms=6)


def asked(turn: str, item_id: str, text: str) -> Line:
    return done(turn, "UserMessage", item_id, content=[{"type": "text", "text": text, "text_elements": []}])


def brief(found: list[Turn]) -> list[tuple[str, str, list[str]]]:
    """Id, status, and what each item says."""
    return [(turn.id, turn.status, [_text(shown) for shown in turn.items]) for turn in found]


def _text(shown: dict[str, Any]) -> str:
    if shown["type"] == "userMessage":
        return "".join(part.get("text", f"<{part['type']}>") for part in shown["content"])
    return shown.get("text") or shown["type"]


def legacy(*lines: Line, live: str | None = None) -> list[tuple[str, str, list[str]]]:
    return brief(turns(written(meta(), *lines), "legacy", live=live))


def paginated(*lines: Line, **options: Any) -> list[tuple[str, str, list[str]]]:
    return brief(turns(written(meta(), *lines, ordinals=True), "paginated", **options))


# -- legacy


def test_a_turn_lies_between_its_markers() -> None:
    found = turns(
        written(
            meta(),
            started("a", started_at=10),
            user("one", client_id="c"),
            agent("1"),
            completed("a", completed_at=12, duration_ms=2000),
        ),
        "legacy",
    )

    assert found == [
        Turn(
            id="a",
            status="completed",
            items=(
                {
                    "type": "userMessage",
                    "id": "item-1",
                    "clientId": "c",
                    "content": [{"type": "text", "text": "one", "text_elements": []}],
                    "startedAtMs": None,
                    "completedAtMs": None,
                },
                {
                    "type": "agentMessage",
                    "id": "item-2",
                    "moderation": None,
                    "text": "1",
                    "phase": None,
                    "memoryCitation": None,
                    "delivery": None,
                    "questions": None,
                    "startedAtMs": None,
                    "completedAtMs": None,
                },
            ),
            started_at=10,
            completed_at=12,
            duration_ms=2000,
        )
    ]


def test_without_markers_each_user_message_begins_a_turn() -> None:
    assert legacy(said("user", "one"), user("one"), agent("1"), agent(""), user("two")) == [
        ("rollout-2", "completed", ["one", "1"]),
        ("rollout-5", "completed", ["two"]),
    ]


def test_a_second_message_into_an_open_turn_belongs_to_it() -> None:
    assert legacy(started("a"), user("one"), user("and"), completed("a")) == [("a", "completed", ["one", "and"])]


def test_a_turn_that_never_ended_is_interrupted_unless_it_runs() -> None:
    lines = [started("a"), user("one"), started("b"), user("two")]

    assert legacy(*lines) == [("a", "interrupted", ["one"]), ("b", "interrupted", ["two"])]
    assert legacy(*lines, live="b")[1] == ("b", "inProgress", ["two"])


def test_an_interruption_does_not_close_and_a_late_end_keeps_it() -> None:
    assert legacy(started("a"), user("one"), event("turn_aborted", turn_id="a"), agent("1"), completed("a")) == [
        ("a", "interrupted", ["one", "1"])
    ]
    assert legacy(user("one"), event("turn_aborted", reason="interrupted"), user("two")) == [
        ("rollout-1", "interrupted", ["one"]),
        ("rollout-3", "completed", ["two"]),
    ]


def test_an_end_of_another_turn_belongs_to_that_turn_and_one_of_nobody_closes_the_open_one() -> None:
    assert legacy(started("a"), started("b"), user("two"), completed("a"), agent("2"), completed("x"), agent("3")) == [
        ("a", "completed", []),
        ("b", "completed", ["two", "2"]),
        ("rollout-7", "completed", ["3"]),
    ]


def test_a_failure_is_told_with_its_reason() -> None:
    failed = {"message": "boom", "codex_error_info": {"http_connection_failed": {"http_status_code": 401}}}
    found = turns(written(meta(), started("a"), user("one"), completed("a", error=failed)), "legacy")

    assert (found[0].status, found[0].error) == ("failed", TurnError("boom", "http_connection_failed"))
    assert legacy(started("a"), event("error", message="no", codex_error_info="other"), completed("a")) == [
        ("a", "failed", [])
    ]


def test_reasoning_that_follows_itself_is_one_item() -> None:
    def thought(text: str) -> Line:
        return event("agent_reasoning", text=text)

    lines = [thought("x"), thought("y"), event("agent_reasoning_raw_content", text="z"), agent("1"), thought("w")]
    found = turns(written(meta(), started("a"), *lines), "legacy")

    assert [(shown.get("summary"), shown.get("content")) for shown in found[0].items] == [
        (["x", "y"], ["z"]),
        (None, None),
        (["w"], []),
    ]


def test_a_rollback_takes_turns_away_and_the_numbers_go_on_behind_what_is_left() -> None:
    lines = [user("one"), agent("1"), user("two"), agent("2"), event("thread_rolled_back", num_turns=1)]

    assert legacy(*lines) == [("rollout-1", "completed", ["one", "1"])]
    assert legacy(*lines[:-1], event("thread_rolled_back", num_turns=9)) == []
    assert legacy(*lines[:-1], event("thread_rolled_back", num_turns=0)) == legacy(*lines[:-1])
    after = turns(written(meta(), *lines, user("three")), "legacy")
    assert after[-1].items[0]["id"] == "item-3"


def test_a_patch_belongs_to_the_turn_it_names() -> None:
    def patch(turn: str, path: str, **members: Any) -> Line:
        changes = {path: {"type": "update", "unified_diff": "@@", "move_path": None}}
        return event("patch_apply_end", call_id="p", turn_id=turn, success=True, changes=changes, **members)

    found = turns(written(meta(), started("a"), patch("a", "/x"), patch("a", "/y"), patch("nobody", "/z")), "legacy")

    assert found[0].items == (
        {
            "type": "fileChange",
            "id": "p",
            "changes": [{"path": "/y", "kind": {"type": "update", "move_path": None}, "diff": "@@"}],
            "status": "completed",
            "startedAtMs": None,
            "completedAtMs": None,
        },
    )


def test_items_that_legacy_logs_tell_by_events_are_not_told_twice() -> None:
    assert legacy(started("a"), asked("a", "u", "ignored"), done("a", "Plan", "p", text="1. look"), user("one")) == [
        ("a", "interrupted", ["1. look", "one"])
    ]


def test_a_compaction_keeps_its_turn() -> None:
    assert legacy(started("a"), completed("a"), event("context_compacted"), user("one")) == [
        ("a", "completed", []),
        ("rollout-3", "completed", ["contextCompaction"]),
        ("rollout-4", "completed", ["one"]),
    ]
    assert legacy(compacted(message("user", "x")), user("one")) == [("rollout-1", "completed", ["one"])]


def test_files_without_events_tell_turns_by_their_messages() -> None:
    lines = [
        said("user", "<environment_context>x</environment_context>"),
        said("user", "one"),
        item("reasoning", summary=[{"type": "summary_text", "text": "hm"}]),
        said("assistant", "1"),
        said("user", "two"),
    ]

    assert legacy(*lines) == [
        ("rollout-2", "completed", ["one", "reasoning", "1"]),
        ("rollout-5", "completed", ["two"]),
    ]
    assert legacy(*lines, user("real")) == [("rollout-6", "completed", ["real"])]


def test_a_hook_prompt_is_shown() -> None:
    found = turns(
        written(meta(), started("a"), said("user", '<hook_prompt hook_run_id="r">go on</hook_prompt>')), "legacy"
    )

    assert found[0].items[0]["fragments"] == [{"text": "go on", "hookRunId": "r"}]


# -- paginated


def test_each_line_names_its_turn() -> None:
    assert paginated(
        started("a"),
        asked("a", "u1", "one"),
        done("a", "AgentMessage", "m1", content=[{"type": "Text", "text": "1"}]),
        completed("a"),
        started("b"),
        asked("b", "u2", "two"),
        event("turn_aborted", turn_id="b"),
        started("c"),
        completed("c", error={"message": "boom"}),
        started("d"),
    ) == [
        ("a", "completed", ["one", "1"]),
        ("b", "interrupted", ["two"]),
        ("c", "failed", []),
        ("d", "interrupted", []),
    ]


def test_an_item_may_come_before_its_turn_and_a_later_version_takes_its_place() -> None:
    assert paginated(
        done("b", "EnteredReviewMode", "r", user_facing_hint="look"),
        started("a"),
        asked("a", "u", "one"),
        done("a", "Plan", "p", text="x"),
        asked("a", "u", "better"),
        started("b"),
    ) == [("a", "interrupted", ["better", "x"]), ("b", "interrupted", ["enteredReviewMode"])]


def test_an_end_without_a_start_is_a_turn_and_rollbacks_change_nothing() -> None:
    assert paginated(completed("a"), event("turn_aborted"), event("thread_rolled_back", num_turns=1)) == [
        ("a", "completed", [])
    ]


def test_what_a_sub_agent_inherited_is_not_its_turn() -> None:
    assert paginated(started("a"), completed("a"), started("b"), completed("b"), subagent_start=3) == [
        ("b", "completed", [])
    ]


def test_commands_are_shown_as_people_type_them() -> None:
    command = {
        "command": ["/bin/bash", "-lc", "echo 'x'"],
        "cwd": "file:///w/a%20b",
        "parsed_cmd": [{"type": "list_files", "cmd": "ls"}, {"type": "read", "cmd": "cat n", "name": "n", "path": "n"}],
        "source": "unified_exec_startup",
        "process_id": "7",
        "status": "in_progress",
        "aggregated_output": "",
        "exit_code": 1,
        "duration": {"secs": 1, "nanos": 2_000_000},
    }

    found = turns(written(started("a"), done("a", "CommandExecution", "c", **command), ordinals=True), "paginated")

    assert found[0].items[0] == {
        "type": "commandExecution",
        "id": "c",
        "pluginId": None,
        "scriptPath": None,
        "command": "/bin/bash -lc \"echo 'x'\"",
        "cwd": "/w/a b",
        "processId": "7",
        "source": "unifiedExecStartup",
        "status": "inProgress",
        "commandActions": [
            {"type": "listFiles", "command": "ls"},
            {"type": "read", "command": "cat n", "name": "n", "path": "/w/a b/n"},
        ],
        "aggregatedOutput": None,
        "exitCode": 1,
        "durationMs": 1002,
        "startedAtMs": 5,
        "completedAtMs": 6,
    }


def test_kinds_that_are_not_known_pass_through() -> None:
    found = turns(written(started("a"), done("a", "HologramView", "h", light_field=[1]), ordinals=True), "paginated")

    assert found[0].items[0] == {
        "type": "hologramView",
        "id": "h",
        "lightField": [1],
        "startedAtMs": 5,
        "completedAtMs": 6,
    }


# -- pages


def test_a_page_reads_no_further_back_than_its_turns() -> None:
    lines = [line for n in range(100) for line in (started(f"t{n}"), asked(f"t{n}", "u", "x"), completed(f"t{n}"))]
    back = Backward(written(meta(), *lines, ordinals=True))

    found = turns_page(back, limit=2)

    assert ([turn.id for turn in found.turns], found.more) == (["t99", "t98"], True)
    assert back.read == 9


def test_pages_follow_each_other() -> None:
    lines = [line for n in range(5) for line in (started(f"t{n}"), completed(f"t{n}"))]
    records = written(meta(), *lines, ordinals=True)

    first = turns_page(reversed(records), limit=2)
    second = turns_page(reversed(records), limit=2, before=first.turns[-1].id)
    third = turns_page(reversed(records), limit=2, before=second.turns[-1].id)

    assert [turn.id for page in (first, second, third) for turn in page.turns] == ["t4", "t3", "t2", "t1", "t0"]
    assert [first.more, second.more, third.more] == [True, True, False]
    assert turns_page(reversed(records), limit=2, before="nobody").turns == ()


def aborted(turn: str) -> Line:
    return event("turn_aborted", turn_id=turn)


_TURNS = st.sampled_from("abcd")
_LINES: st.SearchStrategy[Line] = st.one_of(
    st.builds(started, _TURNS, started_at=st.integers(1, 9)),
    st.builds(completed, _TURNS, completed_at=st.integers(1, 9)),
    st.builds(completed, _TURNS, error=st.just({"message": "boom"})),
    st.builds(aborted, _TURNS),
    st.builds(asked, _TURNS, st.sampled_from(["u", "v", "w"]), st.sampled_from(["x", "y"])),
)


def _plausible(lines: list[Line]) -> list[Line]:
    """A turn starts once, before it ends; its items come at the earliest directly before it begins."""
    marked: set[str] = set()
    kept: list[Line] = []
    for place, line in enumerate(lines):
        kind, turn = line.payload["type"], line.payload["turn_id"]
        if kind == "item_completed":
            following = (later.payload for later in lines[place:] if later.payload["type"] != "item_completed")
            begins = next((later["turn_id"] for later in following), None)
            if turn in marked or turn == begins:
                kept.append(line)
        elif kind != "task_started" or turn not in marked:
            kept.append(line)
            marked.add(turn)
    return kept


@settings(max_examples=300, deadline=None)
@given(st.lists(_LINES, max_size=25), st.integers(1, 3))
def test_pages_together_are_all_turns(lines: list[Line], limit: int) -> None:
    records = written(meta(), *_plausible(lines), ordinals=True)
    every = [(turn.id, turn.items) for turn in turns(records, "paginated")]

    found: list[tuple[str, tuple[dict[str, Any], ...]]] = []
    page = turns_page(reversed(records), limit=limit)
    while page.turns and len(found) <= len(every):
        found += [(turn.id, turn.items) for turn in page.turns]
        page = turns_page(reversed(records), limit=limit, before=page.turns[-1].id)

    assert found == every[::-1]
