"""What a turn writes can be read back: settings, windows and token counts, in both history modes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clew.events import TurnError, TurnInput, Usage
from clew.history.context import Context, rebuild_forward
from clew.history.lines import HistoryMode, TurnLines, session_meta
from clew.history.metadata import read_meta
from clew.history.rebuilding import rebuild
from clew.history.turns import turns
from clew.rollout.envelope import Line, Record
from clew.settings import ApprovalPolicy, Sandbox, SandboxMode, Settings

THREAD, TURN = "01900000-0000-7000-8000-000000000001", "01900000-0000-7000-8000-000000000002"
MODES: tuple[HistoryMode, ...] = ("legacy", "paginated")

paths = st.sampled_from(["/w", "/w/deep", "/other", "/x y", "/tmp"])
sandboxes = st.one_of(
    st.just(Sandbox()),
    st.just(Sandbox(mode=SandboxMode.FULL_ACCESS)),
    st.builds(
        Sandbox,
        mode=st.just(SandboxMode.WORKSPACE_WRITE),
        writable_roots=st.lists(paths, unique=True, max_size=3).map(tuple),
        network_access=st.booleans(),
        exclude_tmpdir_env_var=st.booleans(),
        exclude_slash_tmp=st.booleans(),
    ),
)
texts = st.none() | st.text(st.characters(blacklist_categories=["Cs"]), min_size=1, max_size=12)


def without_own_folder(settings: Settings) -> Settings:
    """The folder of a thread is writable anyway, and not recorded as one root more."""
    roots = tuple(root for root in settings.sandbox.writable_roots if root != settings.cwd)
    return msgspec.structs.replace(settings, sandbox=msgspec.structs.replace(settings.sandbox, writable_roots=roots))


settings_of = st.builds(
    Settings,
    cwd=paths,
    model=st.sampled_from(["m", "other"]),
    provider=st.sampled_from(["one", "two"]),
    approval=st.sampled_from(ApprovalPolicy),
    sandbox=sandboxes,
    effort=st.sampled_from([None, "low", "high"]),
    summary=st.sampled_from(["none", "auto", "concise"]),
    base_instructions=st.just("Base."),
    developer_instructions=texts,
    compact_prompt=texts,
).map(without_own_folder)
NOTHING = Settings(cwd="/nowhere", model="default", provider="default", base_instructions="Default.")


def lines_of(mode: HistoryMode, turn_id: str = TURN) -> TurnLines:
    return TurnLines(thread_id=THREAD, session_id=THREAD, turn_id=turn_id, mode=mode)


def header(settings: Settings, mode: HistoryMode) -> Line:
    return session_meta(
        thread_id=THREAD,
        timestamp="2026-07-01T12:00:00.000Z",
        settings=settings,
        base_instructions=settings.base_instructions or "",
        window_id="01900000-0000-7000-8000-000000000009",
        source="exec",
        originator="test",
        version="1",
        mode=mode,
    )


def records(lines: list[Line]) -> list[Record]:
    return [Record(type=line.type, payload=msgspec.Raw(msgspec.json.encode(line.payload))) for line in lines]


def read(lines: list[Line]) -> Context:
    """From the whole, and from as little as possible: both must tell the same."""
    found = records(lines)
    whole, part = rebuild_forward(found, found[0]), rebuild(reversed(found), found[0])
    assert (whole.recorded, whole.usage, whole.window, [item.raw for item in whole.items]) == (
        part.recorded,
        part.usage,
        part.window,
        [item.raw for item in part.items],
    )
    return part


def message(role: str, text: str) -> dict[str, Any]:
    part = "output_text" if role == "assistant" else "input_text"
    return {"type": "message", "id": "m", "role": role, "content": [{"type": part, "text": text}]}


def begun(settings: Settings, mode: HistoryMode, *, turn_id: str = TURN, changed: bool = True) -> list[Line]:
    turn = lines_of(mode, turn_id)
    told = message("developer", "<permissions instructions>x</permissions instructions>")
    return [
        *turn.started(now=1.0, trigger="user", context_window=100),
        *turn.context(settings, [told], state={"model": "m"}, patch=None, settings_changed=changed),
        *turn.user_message(message("user", "Hi?"), TurnInput(text="Hi?"), item_id="u", now=1.0),
    ]


def compaction(settings: Settings, mode: HistoryMode, usage: Usage) -> list[Line]:
    return lines_of(mode).compacted(
        "gist",
        [message("user", "Hi?"), message("user", "gist")],
        window_number=1,
        first_window_id="a",
        previous_window_id="a",
        window_id="b",
        state={"model": "m"},
        settings=settings,
        item_id="c",
        last=Usage(total_tokens=5),
        total=usage,
        context_window=100,
        started=1.0,
        now=2.0,
    )


@pytest.mark.parametrize("mode", MODES)
@given(first=settings_of, then=settings_of)
def test_recorded_settings_come_back(mode: HistoryMode, first: Settings, then: Settings) -> None:
    context = read([header(first, mode), *begun(first, mode)])
    assert context.recorded.settings(NOTHING) == first
    assert context.recorded.notes == ()
    later = [header(first, mode), *begun(first, mode), *begun(then, mode)]
    assert read(later).recorded.settings(NOTHING) == then


@pytest.mark.parametrize("mode", MODES)
@given(first=settings_of, then=settings_of)
def test_recorded_settings_and_counts_survive_a_compaction(mode: HistoryMode, first: Settings, then: Settings) -> None:
    total = Usage(input_tokens=30, output_tokens=3, total_tokens=33)
    lines = [header(first, mode), *begun(first, mode), *begun(then, mode), *compaction(then, mode, total)]
    for ending in (
        [],
        lines_of(mode).aborted(message("user", "<turn_aborted></turn_aborted>"), started=1.0, now=2.0),
        lines_of(mode).completed("x", started=1.0, now=2.0),
        [*lines_of(mode).usage("r", last=total, turn=total, total=total, context_window=100)],
    ):
        context = read([*lines, *ending])
        assert context.recorded.settings(NOTHING) == then
        assert context.usage == total
        assert (context.window.number, context.window.id, context.window.previous_id) == (1, "b", "a")


@pytest.mark.parametrize("mode", MODES)
def test_people_find_everything_again(mode: HistoryMode) -> None:
    settings = Settings(cwd="/w", model="m", provider="one")
    turn = lines_of(mode)
    patch = {
        "type": "FileChange",
        "id": "call_1",
        "changes": {"/w/a.txt": {"type": "add", "content": "x\n"}},
        "status": "completed",
        "stdout": "Success.",
        "stderr": "",
    }
    reasoning = {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "Hm."}]}
    lines = [
        header(settings, mode),
        *begun(settings, mode),
        *turn.model_item(reasoning, now=1.5),
        *turn.finished(patch, started_ms=1, completed_ms=2),
        *turn.model_item(message("assistant", "Done."), now=2.0),
        *turn.completed("Done.", started=1.0, now=2.0),
    ]
    found = records(lines)
    (seen,) = turns(found, read_meta(found[0]).history_mode)
    assert (seen.id, seen.status) == (TURN, "completed")
    assert [item["type"] for item in seen.items] == ["userMessage", "reasoning", "fileChange", "agentMessage"]
    assert seen.items[-1]["text"] == "Done."


@pytest.mark.parametrize("mode", MODES)
def test_the_ends_of_a_turn_are_told_apart(mode: HistoryMode) -> None:
    settings = Settings(cwd="/w", model="m", provider="one")
    turn = lines_of(mode)
    marker = message("user", "<turn_aborted></turn_aborted>")
    ends: dict[str, list[Line]] = {
        "completed": turn.completed("x", started=1.0, now=2.0),
        "failed": turn.completed(None, started=1.0, now=2.0, error=TurnError("no", "other")),
        "interrupted": turn.aborted(marker, started=1.0, now=2.0),
    }
    for status, end in ends.items():
        lines = [header(settings, mode), *begun(settings, mode), *end]
        found = records(lines)
        assert [seen.status for seen in turns(found, mode)] == [status]
        assert read(lines).open_turn_id is None
    assert read([header(settings, mode), *begun(settings, mode)]).open_turn_id == TURN
