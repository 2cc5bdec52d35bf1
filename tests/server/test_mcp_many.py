"""Whatever clients ask, cancel and interrupt at once: each request has one answer of its own, or none if cancelled."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Literal

import anyio
from hypothesis import given, settings
from hypothesis import strategies as st
from server_world import World

Step = tuple[Literal["reply", "cancel", "interrupt", "wait"], int]
STEPS = st.lists(
    st.tuples(st.sampled_from(["reply", "reply", "reply", "cancel", "interrupt", "wait"]), st.integers(0, 9)),
    max_size=14,
)


async def _run(world: World, steps: list[Step]) -> None:
    async with world.talk() as talk:
        threads = [
            (await talk.answer(await talk.call("codex", prompt="start")))["result"]["structuredContent"]["threadId"]
            for _ in range(2)
        ]
        replies: dict[int, str] = {}
        others: list[int] = []
        cancelled: set[int] = set()
        for number, (step, choice) in enumerate(steps):
            thread = threads[choice % 2]
            match step:
                case "reply":
                    hold = "[[hold]]" if choice % 3 == 0 else ""
                    request = await talk.call("codex-reply", threadId=thread, prompt=f"{hold}[[say:answer {number}]]")
                    replies[request] = f"answer {number}"
                case "cancel" if replies:
                    request = list(replies)[choice % len(replies)]
                    await talk.tell("notifications/cancelled", {"requestId": request})
                    cancelled.add(request)
                case "interrupt":
                    others.append(await talk.call("thread_interrupt", threadId=thread))
                case "wait":
                    others.append(await talk.call("thread_wait", threadId=thread))
                case _:
                    pass
        world.fake.release()
        for request in others:
            await talk.answer(request)
        for request, text in replies.items():
            if request in cancelled:
                assert len(talk.answers(request)) <= 1
                continue
            result = (await talk.answer(request))["result"]
            assert result["content"][0]["text"] in (text, "The turn was interrupted.")
        for thread in threads:
            last = await talk.answer(await talk.call("codex-reply", threadId=thread, prompt="[[say:after all]]"))
            assert last["result"]["content"][0]["text"] == "after all"
        for request in [*replies, *others]:
            assert len(talk.answers(request)) == (request not in cancelled or bool(talk.answers(request)))


@settings(max_examples=30, deadline=None)
@given(STEPS)
def test_each_request_has_one_answer_of_its_own(steps: list[Step]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(_run, World(Path(folder)), steps)
