"""An interruption at any moment: the turn ends once, and memory, log and the next request agree."""

from __future__ import annotations

from collections import Counter

import pytest
from agent_bench import Workshop, inputs

from clew.events import TurnEnded
from clew.testing import Step, call, say, think

pytestmark = pytest.mark.anyio

PROMPT = "@think Hm.\n@together\n@exec echo a\n@exec echo b\n@write c.txt text\n@say Done, as was asked."


@pytest.mark.parametrize("legacy", [False, True], ids=["paginated", "legacy"])
@pytest.mark.parametrize("moment", range(16))
async def test_an_interruption_at_any_event(moment: int, legacy: bool, workshop: Workshop) -> None:
    async with workshop.open() as house:
        thread = await house.legacy() if legacy else await house.start()
        turn = house.ask(thread, PROMPT)
        ends = 0
        async with turn.events() as events:
            number = 0
            async for event in events:
                if number == moment:
                    turn.interrupt()
                number += 1
                ends += isinstance(event, TurnEnded)
        result = await turn.wait()
        assert ends == 1
        assert result.status in ("completed", "interrupted")
        await house.check(thread)
        kinds = house.kinds(thread)
        assert kinds[-1] == {"completed": "task_complete", "interrupted": "turn_aborted"}[result.status]
        outputs = Counter(
            payload["call_id"] for _, payload in house.lines(thread) if str(payload.get("type")).endswith("_output")
        )
        assert set(outputs.values()) <= {1}
        await house.say(thread, "@say Next.")
        sent = inputs(workshop.requests[-1])
        asked = [line.split()[1] for line in sent if "_call " in line]
        answered = [line.split()[1].rstrip(":") for line in sent if line.startswith("output")]
        assert asked == answered
        if result.status == "interrupted":
            assert sent[-2:] == ["user: <turn_aborted>", "user: @say Next."]
        (page,) = (await house.threads.read(thread.id, newest_first=True, limit=1)).turns
        assert page.status == "completed"


@pytest.mark.parametrize("after", range(9))
async def test_a_stream_that_breaks_anywhere_is_taken_up(after: int, workshop: Workshop) -> None:
    items = [think("Hm."), call("exec_command", {"cmd": "echo ran >> log"}, call_id="c1"), say("Half.")]
    workshop.script.steps.append(Step(items=items, deltas=False, drop="reset", drop_after=after))
    async with workshop.open() as house:
        thread = await house.start()
        result = await house.say(thread, "@say Done.")
        assert (result.status, result.last_message) == ("completed", "Done.")
        log = workshop.project / "log"
        ran = log.read_text().count("ran") if log.exists() else 0
        assert ran == inputs(workshop.requests[1]).count("function_call c1")
        assert ran <= 1
