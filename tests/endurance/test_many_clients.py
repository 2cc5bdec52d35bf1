"""Many callers at once: every one gets its own answer, and turns of a thread never mix."""

from __future__ import annotations

from typing import Any

import anyio

from drivers import CLEW, Answer, Endpoint, Request, Run, Say, Server, World, answer, serving

MCP = (*CLEW, "mcp")


async def _ask(server: Server, thread_id: str | None, text: str, answers: dict[str, Answer]) -> None:
    assert text not in answers
    answers[text] = await (server.reply(thread_id, text) if thread_id else server.start(text))


def test_ten_replies_at_once_through_two_servers_are_ten_turns_one_after_the_other(
    world: World, endpoint: Endpoint
) -> None:
    texts = [f"{client}{number}" for client in "ab" for number in range(5)]
    for text in texts:
        endpoint.on(text, Run(f"echo {text}"), Say(answer(text)))
    answers: dict[str, Answer] = {}
    first: list[Answer] = []

    async def main() -> None:
        async with serving(world, MCP) as one, serving(world, MCP) as other:
            first.append(await one.start("first"))
            async with anyio.create_task_group() as group:
                for text in texts:
                    server = one if text.startswith("a") else other
                    group.start_soon(_ask, server, first[0].thread_id, text, answers)

    anyio.run(main)
    thread_id = first[0].thread_id
    assert thread_id is not None
    assert answers == {text: Answer(answer(text), thread_id, failed=False) for text in texts}

    lines = world.lines(thread_id)
    assert [line["ordinal"] for line in lines] == list(range(len(lines)))
    turns = _turns(lines)
    assert len(turns) == 11
    for turn in turns:
        marks = [line["payload"] for line in turn if line["payload"].get("type") in {"task_started", "task_complete"}]
        assert [mark["type"] for mark in marks] == ["task_started", "task_complete"]
        assert marks[0]["turn_id"] == marks[1]["turn_id"]
        assert turn[-1]["payload"] == marks[1]
    told = [
        Request({"input": [line["payload"] for line in turn if line["type"] == "response_item"]}).told for turn in turns
    ]
    order = [turn[0][1] for turn in told]
    assert order[0] == "first"
    assert sorted(order[1:]) == sorted(texts)
    for text, turn in zip(order[1:], told[1:], strict=True):
        assert [line[0] for line in turn] == ["user", "call", "output", "assistant"]
        assert text in turn[2][2]
        assert turn[3] == ("assistant", answer(text))

    # Each request told exactly what was recorded by then.
    history = [line for turn in told for line in turn]
    for request in endpoint.requests:
        assert request.told == history[: len(request.told)]


def test_a_client_that_sends_five_replies_at_once_has_them_run_in_the_order_sent(
    world: World, endpoint: Endpoint
) -> None:
    texts = [f"number {number}" for number in range(5)]
    answers: dict[str, Answer] = {}

    async def main() -> None:
        async with serving(world, MCP) as server:
            thread_id = (await server.start("first")).thread_id
            async with anyio.create_task_group() as group:
                for text in texts:
                    group.start_soon(_ask, server, thread_id, text, answers)

    anyio.run(main)
    assert {text: got.text for text, got in answers.items()} == {text: answer(text) for text in texts}
    assert endpoint.requests[-1].users == ["first", *texts]


def test_twenty_threads_at_once_in_one_server_keep_apart(world: World, endpoint: Endpoint) -> None:
    starts = [f"thread {number}" for number in range(20)]
    answers: dict[str, Answer] = {}

    async def main() -> None:
        async with serving(world, MCP) as server:
            async with anyio.create_task_group() as group:
                for text in starts:
                    group.start_soon(_ask, server, None, text, answers)
            async with anyio.create_task_group() as group:
                for text in starts:
                    group.start_soon(_ask, server, answers[text].thread_id, f"{text}, again", answers)

    anyio.run(main)
    assert {text: (got.text, got.failed) for text, got in answers.items()} == {
        text: (answer(text), False) for start in starts for text in (start, f"{start}, again")
    }
    threads = {start: answers[start].thread_id for start in starts}
    assert len(set(threads.values())) == 20
    for start, thread_id in threads.items():
        assert thread_id is not None
        assert answers[f"{start}, again"].thread_id == thread_id
        items = [line["payload"] for line in world.lines(thread_id) if line["type"] == "response_item"]
        assert Request({"input": items}).told == [
            ("user", start),
            ("assistant", answer(start)),
            ("user", f"{start}, again"),
            ("assistant", answer(f"{start}, again")),
        ]


def _turns(lines: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """The lines behind the header, cut in front of each `task_started`."""
    turns: list[list[dict[str, Any]]] = []
    for line in lines[1:]:
        if line["payload"].get("type") == "task_started":
            turns.append([])
        turns[-1].append(line)
    return turns
