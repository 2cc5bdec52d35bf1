"""`clew.open`: defaults, turns and their events, approvals, errors, lists."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import anyio
import pytest

import clew

pytestmark = pytest.mark.anyio

Words = dict[str, Any]


async def test_a_thread_is_started_asked_and_resumed(words: Words) -> None:
    async with clew.open(**words) as threads:
        thread = await threads.start()
        result = await thread.ask("my favourite number is 41")
        assert (result.status, result.thread_id) == ("completed", thread.id)
    async with clew.open(**words) as threads:
        again = await threads.resume("last")
        assert again.id == thread.id
        assert (await again.ask("what is my favourite number?")).last_message == "Your favourite number is 41."
        assert [turn.status async for turn in again.turns()] == ["completed", "completed"]


async def test_settings_come_from_the_call_then_from_open_then_from_the_files(tmp_path: Path, words: Words) -> None:
    (tmp_path / "codex").mkdir()
    (tmp_path / "codex" / "config.toml").write_text('model = "filed"\nsandbox_mode = "workspace-write"\n')
    (tmp_path / "elsewhere").mkdir()

    def told(thread: clew.Thread) -> tuple[str, str, str, str]:
        settings = thread.settings
        return settings.model, settings.sandbox.mode.value, settings.approval.value, Path(settings.cwd).name

    async with clew.open(**words, approval="never", config={"model_reasoning_effort": "high"}) as threads:
        first = await threads.start()
        assert told(first) == ("filed", "workspace-write", "never", "project")
        assert first.settings.effort == "high"
        second = await threads.start(
            model="mine", sandbox=clew.SandboxMode.READ_ONLY, approval="on-request", cwd="../elsewhere"
        )
        assert told(second) == ("mine", "read-only", "on-request", "elsewhere")
        await second.ask("hi")
    async with clew.open(**words, model="other", sandbox="danger-full-access") as threads:
        kept = await threads.resume(second.id)
        assert told(kept) == ("mine", "read-only", "on-request", "elsewhere")
        wider = await threads.resume(second.id, sandbox="workspace-write")
        async with wider.reply("hi") as turn:
            await turn.wait()
        assert turn.notices == ("The sandbox was widened from read-only to workspace-write, as this call asked.",)


async def test_the_events_of_a_turn_are_typed_and_begin_with_the_first(words: Words) -> None:
    async with clew.open(**words) as threads:
        thread = await threads.start()
        async with thread.reply("say: hello there") as turn:
            kinds = [type(event) async for event in turn]
            assert kinds[0] is clew.TurnStarted
            assert kinds[-1] is clew.TurnEnded
            assert turn.state == "done"
        assert turn.result == await turn.wait()
        again = [event async for event in turn if not isinstance(event, clew.TextDelta)]
        assert [type(event) for event in again] == [kind for kind in kinds if kind is not clew.TextDelta]


async def test_leaving_the_block_waits_and_leaving_it_by_an_error_interrupts(words: Words) -> None:
    async with clew.open(**words, sandbox="danger-full-access") as threads:
        thread = await threads.start()
        async with thread.reply("say: hello") as turn:
            pass
        assert (turn.result and turn.result.last_message) == "hello"

        async def leave() -> None:
            async with thread.reply("run: sleep 60") as turn:
                async for event in turn:
                    if isinstance(event, clew.ItemStarted):
                        raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await leave()
        assert [turn.status async for turn in thread.turns()] == ["completed", "interrupted"]


async def test_asking_that_is_cancelled_interrupts_the_turn(words: Words) -> None:
    async with clew.open(**words, sandbox="workspace-write") as threads:
        thread = await threads.start()
        with anyio.CancelScope() as scope:

            async def approver(request: clew.ApprovalRequest) -> clew.Decision:
                scope.cancel()
                await anyio.sleep_forever()
                return clew.Decision.ONCE

            await thread.ask("run with full access: touch proof", approver=approver)
        assert scope.cancelled_caught
        assert [turn.status async for turn in thread.turns()] == ["interrupted"]


def _once(request: clew.ApprovalRequest) -> clew.Decision:
    return clew.Decision.ONCE


@pytest.mark.parametrize(
    ("approver", "ran"),
    [
        (None, False),
        (clew.deny_all, False),
        (clew.approve_all, True),
        (_once, True),
    ],
)
async def test_approvals_are_answered(approver: Any, ran: bool, words: Words) -> None:
    async with clew.open(**words, sandbox="workspace-write") as threads:
        thread = await threads.start()
        await thread.ask("run with full access: touch proof", approver=approver)
        assert Path("proof").exists() == ran


async def test_approvers_may_be_async_and_see_what_would_run(words: Words) -> None:
    asked: list[clew.ApprovalRequest] = []

    async def approver(request: clew.ApprovalRequest) -> clew.Decision:
        await anyio.lowlevel.checkpoint()
        asked.append(request)
        return clew.Decision.SESSION

    async with clew.open(**words, sandbox="workspace-write", approver=approver) as threads:
        thread = await threads.start()
        for _ in range(2):
            await thread.ask("run with full access: touch proof")
    assert [(request.command[-1], request.escalated, request.cwd) for request in asked] == [
        ("touch proof", True, str(Path.cwd()))
    ]


async def test_what_an_approver_raises_stops_the_turn_and_comes_out(words: Words) -> None:
    def broken(request: clew.ApprovalRequest) -> clew.Decision:
        raise LookupError("broken")

    def perhaps(request: clew.ApprovalRequest) -> Any:
        return "perhaps"

    async with clew.open(**words, sandbox="workspace-write") as threads:
        thread = await threads.start()
        for approver, error in ((broken, LookupError), (perhaps, ValueError)):
            with pytest.raises(error):
                await thread.ask("run with full access: touch proof", approver=approver)
        assert [turn.status async for turn in thread.turns()] == ["interrupted", "interrupted"]
    assert not Path("proof").exists()


async def test_an_interrupted_turn_waits_for_no_answer(words: Words) -> None:
    async def never(request: clew.ApprovalRequest) -> clew.Decision:
        await anyio.sleep_forever()
        return clew.Decision.ONCE

    async with clew.open(**words, sandbox="workspace-write", approver=never) as threads:
        thread = await threads.start()
        async with thread.reply("run with full access: touch proof") as turn:
            async for event in turn:
                if isinstance(event, clew.ApprovalAsked):
                    turn.interrupt()
        assert turn.result is not None
        assert turn.result.status == "interrupted"


async def test_failures_are_errors_of_clew(words: Words) -> None:
    config = {"model_providers.gone": {"name": "gone", "base_url": "http://127.0.0.1:9", "request_max_retries": 0}}
    config["model_providers.gone"]["stream_max_retries"] = 0
    words["provider"] = "gone"
    async with clew.open(**words, config=config) as threads:
        thread = await threads.start()
        with pytest.raises(clew.TurnFailed) as failed:
            await thread.ask("hi")
        assert (failed.value.thread_id, failed.value.kind) == (thread.id, "unreachable")
        async with thread.reply("hi") as turn:
            pass
        assert turn.result is not None
        assert turn.result.status == "failed"
        with pytest.raises(clew.ThreadNotFound):
            await threads.resume("nobody")
        with pytest.raises(clew.ProviderUnknown):
            await threads.start(provider="unknown")
        with pytest.raises(clew.BadRequest):
            await (await threads.start()).compact()


async def test_a_wrong_configuration_is_told_at_once(words: Words) -> None:
    with pytest.raises(clew.ConfigInvalid):
        await clew.open(**words, config={"sandbox_mode": "wide"}).__aenter__()


async def test_threads_are_forked_named_archived_listed_and_found(words: Words) -> None:
    async with clew.open(**words) as threads:
        thread = await threads.start()
        for text in ("my favourite number is 41", "my favourite colour is green"):
            await thread.ask(text)
        fork = await thread.fork(after_turn="1", name="short")
        assert (await fork.ask("how many turns?")).last_message == "This is turn 2 of our thread."
        other = await threads.fork("short")
        assert (await other.summary()).forked_from == fork.id
        assert {summary.id async for summary in threads.list()} == {thread.id, fork.id, other.id}
        small = clew.ListQuery(limit=1, sort="created", ascending=True)
        assert [summary.id async for summary in threads.list(small)] == [thread.id, fork.id, other.id]
        assert len((await threads.page(small)).threads) == 1
        assert [hit.thread.id async for hit in threads.search("colour")] == [thread.id]
        await threads.archive(other.id)
        assert {summary.id async for summary in threads.list()} == {thread.id, fork.id}
        assert (await threads.unarchive(other.id)).archived is False
        assert (await thread.rename("long")).name == "long"
        assert (await threads.get("long")).id == thread.id
        assert (await threads.revert("long", "2")).turns == 1
        comparison = await threads.compare(thread.id, fork.id)
        assert {comparison.left.thread.id, comparison.right.thread.id} == {thread.id, fork.id}
        assert (await threads.status("long")).state == "idle"


async def test_a_thread_is_summed_up(words: Words) -> None:
    async with clew.open(**words) as threads:
        thread = await threads.start()
        await thread.ask("my favourite number is 41")
        assert (await thread.compact()).status == "completed"
        assert (await thread.ask("what is my favourite number?")).last_message == "Your favourite number is 41."


def test_the_face_without_async_has_the_same_names_and_parameters() -> None:
    for ours, theirs in ((clew.Threads, clew.SyncThreads), (clew.Thread, clew.SyncThread), (clew.Turn, clew.SyncTurn)):
        names = {name for name in vars(ours) if not name.startswith("_")} - {"config"}
        assert names == {name for name in vars(theirs) if not name.startswith("_")}
        for name in names:
            one, other = getattr(ours, name), getattr(theirs, name)
            if not isinstance(one, property):
                assert list(inspect.signature(one).parameters) == list(inspect.signature(other).parameters), name
    assert inspect.signature(clew.open).parameters == inspect.signature(clew.open_sync).parameters
