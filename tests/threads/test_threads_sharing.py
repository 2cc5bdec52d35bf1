"""Threads that several programs go on with, the settings they come back with, and what else the front door does."""

from __future__ import annotations

import errno
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest
from thread_bench import Nobody, front, message

from clew.errors import BadRequest, HomeUnwritable, LogDamaged, ThreadArchived, ThreadBusy, ThreadNotFound
from clew.events import Notice, TurnInput, TurnResult
from clew.rollout import Line, WaitingLine
from clew.settings import ApprovalPolicy, Overrides, Sandbox, SandboxMode, Settings
from clew.store import ListQuery, SearchQuery
from clew.testing import MemoryFileSystem, ThreadBuilder, memory_home

pytestmark = pytest.mark.anyio
WORKSPACE = Sandbox(mode=SandboxMode.WORKSPACE_WRITE)
FULL = Sandbox(mode=SandboxMode.FULL_ACCESS)


async def test_two_programs_interleave_whole_turns_and_see_each_other(tmp_path: Path) -> None:
    fs = MemoryFileSystem()
    async with front(tmp_path, fs, "one") as one, front(tmp_path, fs, "two") as two:
        thread = await one.start()
        await one.say(thread, "begin")
        same = await two.open(thread.id)
        results: dict[str, TurnResult] = {}

        async def ask(name: str) -> None:
            hand, door = (one, thread) if name.startswith("one") else (two, same)
            results[name] = await hand.say(door, name)

        async with anyio.create_task_group() as tasks:
            for number in range(5):
                tasks.start_soon(ask, f"one {number}")
                tasks.start_soon(ask, f"two {number}")
        told = one.told(thread.id)
        assert told == two.told(thread.id)
        pairs = list(zip(told[::2], told[1::2], strict=True))
        assert all(answer == f"re: {asked}" for asked, answer in pairs), "turns are whole"
        asked = [asked for asked, _ in pairs]
        assert sorted(asked) == sorted(["begin", *results])
        for name in ("one", "two"):
            assert [text for text in asked if text.startswith(name)] == [f"{name} {number}" for number in range(5)]
        assert {name: result.last_message for name, result in results.items()} == {
            name: f"re: {name}" for name in results
        }
        # Each saw, when it asked, everything that was there.
        for hand in (one, two):
            for heard in hand.engine.heard:
                assert heard == told[: len(heard)]


async def test_what_another_hand_appended_between_turns_is_seen(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        thread = await one.start()
        await one.say(thread, "first")
        async with one.store.lease(thread.id, one.owner) as lease:
            await lease.append([Line("response_item", message("user", "from elsewhere"))])
        await one.say(thread, "second")
        assert one.engine.heard[-1] == ["first", "re: first", "from elsewhere", "second"]


async def test_a_loaded_thread_is_not_read_again(tmp_path: Path) -> None:
    fs = MemoryFileSystem()
    async with front(tmp_path, fs) as one:
        thread = await one.start()
        await one.say(thread, "first")
        context = one.engine.lives[-1].context
        await one.say(thread, "second")
        assert one.engine.lives[-1].context is context


async def test_a_fresh_thread_leaves_nothing_on_disk_until_its_first_turn(tmp_path: Path) -> None:
    fs = MemoryFileSystem()
    async with front(tmp_path, fs) as one:
        thread = await one.start()
        assert fs.calls["write"] == 0
        assert (await one.threads.list(ListQuery(archived=None))).threads == ()
        with pytest.raises(ThreadNotFound):
            await one.open(thread.id)
        skipped = one.run(thread, "never")
        skipped.interrupt()
        assert (await skipped.wait()).status == "interrupted"
        assert (await one.threads.list(ListQuery(archived=None))).threads == ()
        await one.say(thread, "first")
        summary = await one.threads.summary("last")
        assert (summary.id, summary.source, summary.cli_version, summary.preview) == (
            thread.id,
            "exec",
            "1.2.3",
            "first",
        )


SETTINGS: tuple[dict[str, object], ...] = (
    {},
    {"mode": SandboxMode.FULL_ACCESS, "approval": ApprovalPolicy.NEVER},
    {"mode": SandboxMode.WORKSPACE_WRITE, "model": "other", "effort": "high", "summary": "concise"},
    {"approval": ApprovalPolicy.UNTRUSTED, "developer_instructions": "Be kind.", "compact_prompt": "Sum up."},
    {"base_instructions": "Own base.", "provider": "second"},
)


@pytest.mark.parametrize("asked", SETTINGS)
async def test_settings_come_back_from_the_log(asked: dict[str, object], tmp_path: Path) -> None:
    fs = MemoryFileSystem()
    async with front(tmp_path, fs) as one:
        thread = await one.start(**asked)
        await one.say(thread, "first")
    async with front(tmp_path, fs) as again:
        defaults = Settings(
            cwd="/elsewhere", model="default", provider="default", approval=ApprovalPolicy.ON_REQUEST, sandbox=WORKSPACE
        )
        opened = await again.threads.open(thread.id, defaults)
        expected = thread.settings
        got = opened.settings
        assert (got.cwd, got.model, got.provider, got.approval, got.sandbox) == (
            expected.cwd,
            expected.model,
            expected.provider,
            expected.approval,
            expected.sandbox,
        )
        assert (got.effort, got.summary or "none") == (expected.effort, expected.summary or "none")
        assert (got.developer_instructions, got.compact_prompt) == (
            expected.developer_instructions,
            expected.compact_prompt,
        )
        turn = again.run(opened, "second")
        await turn.wait()
        assert (turn.notices, again.engine.lives[-1].settings) == ((), got)


async def test_wider_defaults_do_not_widen_a_recorded_thread(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        thread = await one.start(approval=ApprovalPolicy.UNTRUSTED)
        await one.say(thread, "first")
        wide = one.settings(SandboxMode.FULL_ACCESS, approval=ApprovalPolicy.NEVER)
        opened = await one.threads.open(thread.id, wide)
        turn = one.run(opened, "second")
        await turn.wait()
        used = one.engine.lives[-1].settings
        assert (used.sandbox.mode, used.approval) == (SandboxMode.READ_ONLY, ApprovalPolicy.UNTRUSTED)
        assert turn.notices == ()


async def test_what_widens_in_so_many_words_is_done_told_and_kept(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        thread = await one.start()
        await one.say(thread, "first")
        wider = await one.open(thread.id, Overrides(sandbox=FULL, approval=ApprovalPolicy.NEVER))
        turn = one.run(wider, "second")
        await turn.wait()
        assert turn.notices == (
            "The sandbox was widened from read-only to danger-full-access, as this call asked.",
            "Fewer questions are asked before commands run (never instead of on-request), as this call asked.",
        )
        assert one.engine.lives[-1].settings.sandbox == FULL
        later = await one.open(thread.id)
        assert (later.settings.sandbox, later.settings.approval) == (FULL, ApprovalPolicy.NEVER)
        narrower = await one.open(
            thread.id, Overrides(sandbox=Sandbox(), approval=ApprovalPolicy.ON_REQUEST, model="x")
        )
        quiet = one.run(narrower, "third")
        await quiet.wait()
        assert quiet.notices == ()
        assert (await one.open(thread.id)).settings.model == "x"


async def test_a_wider_network_in_the_same_mode_is_told(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        thread = await one.start(mode=SandboxMode.WORKSPACE_WRITE)
        await one.say(thread, "first")
        online = Sandbox(mode=SandboxMode.WORKSPACE_WRITE, network_access=True)
        turn = one.run(await one.open(thread.id, Overrides(sandbox=online)), "second")
        await turn.wait()
        assert turn.notices == (
            "The sandbox was widened (workspace-write with more roots or network access), as this call asked.",
        )


async def test_a_thread_of_codex_is_gone_on_with(tmp_path: Path) -> None:
    fs = MemoryFileSystem()
    builder = ThreadBuilder("0.142", cwd=str(tmp_path), sandbox="read-only", approval="untrusted")
    builder.turn("First?", "One.").write(memory_home(fs))
    async with front(tmp_path, fs) as one:
        thread = await one.open("last")
        assert (thread.id, thread.settings.sandbox.mode) == (builder.id, SandboxMode.READ_ONLY)
        await one.say(thread, "Second?")
        page = await one.threads.read(thread.id)
        said = [
            [item.get("text") or item["content"][0]["text"] for item in turn.items if "Message" in item["type"]]
            for turn in page.turns
        ]
        assert said == [["First?", "One."], ["Second?", "re: Second?"]]


async def test_turns_are_read_in_pages_from_either_end(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        thread = await one.start()
        ids = [(await one.say(thread, str(number))).turn_id for number in range(5)]
        for newest_first in (False, True):
            found: list[str] = []
            cursor: str | None = None
            while True:
                page = await one.threads.read(thread.id, cursor=cursor, limit=2, newest_first=newest_first)
                assert len(page.turns) <= 2
                found += [turn.id for turn in page.turns]
                cursor = page.next_cursor
                if cursor is None:
                    break
            assert found == (ids[::-1] if newest_first else ids)
        for wrong in (0, 1001):
            with pytest.raises(BadRequest):
                await one.threads.read(thread.id, limit=wrong)


async def test_status_tells_what_runs_what_waits_and_who_holds(tmp_path: Path) -> None:
    fs = MemoryFileSystem()
    async with front(tmp_path, fs, "one") as one, front(tmp_path, fs, "two") as two:
        thread = await one.start()
        first = await one.say(thread, "first")
        status = await one.threads.status(thread.id)
        assert (status.state, status.turn_id, status.turn_status, status.last_message, status.queued) == (
            "idle",
            first.turn_id,
            "completed",
            "re: first",
            0,
        )
        running = one.run(thread, "wait a")
        one.run(thread, "third")
        one.run(thread, "fourth")
        await one.engine.at("a").wait()
        status = await one.threads.status(thread.id)
        assert (status.state, status.turn_id, status.turn_status, status.queued) == (
            "running",
            running.turn_id,
            "inProgress",
            2,
        )
        page = await one.threads.read(thread.id)
        assert [turn.status for turn in page.turns] == ["completed", "inProgress"]
        elsewhere = await two.threads.status(thread.id)
        assert (elsewhere.state, elsewhere.turn_id, elsewhere.turn_status) == ("held", running.turn_id, "inProgress")
        with pytest.raises(ThreadBusy):
            await one.threads.archive(thread.id)
        async with two.store.lease((other := await two.start()).id, two.owner, create=True) as lease:
            header = {"id": other.id, "timestamp": "2026-07-01T12:00:00.000Z", "cwd": "/", "history_mode": "paginated"}
            await lease.append([Line("session_meta", header)])
            held = await one.threads.status(other.id)
            assert (held.state, held.owner.program if held.owner else None) == ("held", "two")
        one.engine.gate("a").set()
        await one.threads.drain()
        assert (await one.threads.status(thread.id)).last_message == "re: fourth"


async def test_a_fork_goes_its_own_way(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        thread = await one.start()
        first = await one.say(thread, "first")
        await one.say(thread, "second")
        whole = await one.open(await one.threads.fork(thread.id))
        part = await one.open(await one.threads.fork(thread.id, after_turn=first.turn_id))
        await one.say(whole, "third")
        await one.say(part, "other second")
        assert one.told(whole.id) == ["first", "re: first", "second", "re: second", "third", "re: third"]
        assert one.told(part.id) == ["first", "re: first", "other second", "re: other second"]
        assert one.told(thread.id) == ["first", "re: first", "second", "re: second"]
        assert one.engine.heard[-1] == ["first", "re: first", "other second"]


async def test_names_archive_and_search_work_through_the_front_door(tmp_path: Path) -> None:
    async with front(tmp_path) as one:
        thread = await one.start()
        await one.say(thread, "where is Ariadne?")
        assert (await one.threads.rename(thread.id, "the ball")).name == "the ball"
        assert (await one.open("the ball")).id == thread.id
        assert [hit.thread.id for hit in (await one.threads.search(SearchQuery(text="ariadne"))).hits] == [thread.id]
        with pytest.raises(BadRequest):
            await one.threads.search(SearchQuery(text="  "))
        assert (await one.threads.archive("the ball")).thread.archived
        with pytest.raises(ThreadArchived):
            await one.open(thread.id)
        with pytest.raises(ThreadArchived):
            await thread.run(TurnInput(text="again"), approver=Nobody()).wait()
        assert not (await one.threads.unarchive("the ball")).thread.archived
        assert (await one.say(thread, "again")).status == "completed"


async def test_a_turn_that_waits_says_for_whom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clew.threads._SILENT_WAIT", 0.0)
    fs = MemoryFileSystem()
    async with front(tmp_path, fs, "one") as one, front(tmp_path, fs, "two") as two:
        thread = await one.start()
        await one.say(thread, "first")
        async with two.store.lease(thread.id, two.owner):
            waiting = one.run(thread, "second")
            async with waiting.events() as stream:
                said = await anext(stream)
            holder = one.store.holder(thread.id)
        assert holder is not None
        assert str(holder).startswith("two (pid 1) since ")
        assert said == Notice(waiting.turn_id, f"Waiting for {holder}, which holds the thread", "info")
        assert (await waiting.wait()).last_message == "re: second"


async def test_a_thread_whose_base_is_gone_is_not_gone_on_with(tmp_path: Path) -> None:
    fs = MemoryFileSystem()
    async with front(tmp_path, fs) as one:
        thread = await one.start()
        await one.say(thread, "first")
        fork = await one.open(await one.threads.fork(thread.id))
        summary = await one.threads.summary(thread.id)
        fs.unlink(Path(summary.path))
        with pytest.raises(LogDamaged) as told:
            await one.say(fork, "second")
        assert f"the base of its history is missing: rollout {thread.id}" in str(told.value)
        assert one.engine.ran == ["first"]


async def test_a_home_that_cannot_be_written_is_named_with_the_reason(tmp_path: Path) -> None:
    fs = MemoryFileSystem()
    async with front(tmp_path, fs) as one:
        thread = await one.start()
        await one.say(thread, "first")
        fs.fail("open", times=100, error=errno.EROFS)
        with pytest.raises(HomeUnwritable, match="cannot be written: Read-only file system") as told:
            await one.say(thread, "second")
        assert told.value.thread_id == thread.id
        fs.heal()
        assert (await one.say(thread, "third")).status == "completed"


async def test_two_programs_with_long_queues_take_turns(tmp_path: Path) -> None:
    fs, count = MemoryFileSystem(), 12
    async with front(tmp_path, fs, "one") as one, front(tmp_path, fs, "two") as two:
        thread = await one.start()
        await one.say(thread, "begin")
        same = await two.open(thread.id)
        line = WaitingLine(fs, Path("/memory/clew"), thread.id)
        turns = [one.run(thread, f"wait one {number}") for number in range(count)]
        await one.engine.at("one 0").wait()
        turns += [two.run(same, f"wait two {number}") for number in range(count)]
        for number in range(count):
            for program, hand in (("one", one), ("two", two)):
                name = f"{program} {number}"
                await hand.engine.at(name).wait()
                last = number == count - 1 and program == "two"
                while not (last or line.read()):  # the other one asks while this turn runs
                    await anyio.lowlevel.checkpoint()
                hand.engine.gate(name).set()
        assert {(await turn.wait()).status for turn in turns} == {"completed"}
        asked = [text for text in one.told(thread.id) if text.startswith("wait")]
        assert asked == [f"wait {program} {number}" for number in range(count) for program in ("one", "two")]
        assert not line.there


async def test_those_who_asked_first_come_first_and_an_interrupted_one_leaves_the_line(tmp_path: Path) -> None:
    fs = MemoryFileSystem()
    async with front(tmp_path, fs, "a") as a, front(tmp_path, fs, "b") as b, front(tmp_path, fs, "c") as c:
        thread = await a.start()
        await a.say(thread, "begin")
        line = WaitingLine(fs, Path("/memory/clew"), thread.id)
        turns = [a.run(thread, "wait x"), a.run(thread, "second of a")]
        await a.engine.at("x").wait()
        for count, hand in enumerate((b, c, b), 1):
            turns.append(hand.run(await hand.open(thread.id), f"of {hand.owner.program}"))
            while len(line.read()) < min(count, 2):
                await anyio.lowlevel.checkpoint()
        assert [entry.program for entry in line.read()] == ["b", "c"]
        turns[2].interrupt()
        while [entry.program for entry in line.read()] != ["c", "b"]:  # it asks anew, for its other turn
            await anyio.lowlevel.checkpoint()
        a.engine.gate("x").set()
        assert [(await turn.wait()).status for turn in turns] == ["completed"] * 2 + ["interrupted"] + ["completed"] * 2
        told = a.told(thread.id)[2::2]
        assert told == ["wait x", "of c", "of b", "second of a"]


async def test_a_held_thread_says_which_turn_runs_and_for_how_long(tmp_path: Path) -> None:
    fs = MemoryFileSystem()
    async with front(tmp_path, fs, "one") as one, front(tmp_path, fs, "two") as two:
        thread = await one.start()
        running = one.run(thread, "wait a")
        await one.engine.at("a").wait()
        owner = (await two.threads.status(thread.id)).owner
        assert owner is not None
        assert (owner.program, owner.turn) == ("one", running.turn_id)
        assert str(owner).partition(" for ")[0].endswith(f", at work on turn {running.turn_id}")
        with pytest.raises(ThreadBusy) as busy:
            await two.threads.archive(thread.id)
        assert busy.value.owner == owner
        assert f"clew unlock {thread.id} --force" in busy.value.hint
        one.engine.gate("a").set()
