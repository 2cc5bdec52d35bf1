"""The offline model: what a newcomer sees without a key."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from model_asking import asking, completed, listen, user

from clew.agent.model import Created, ItemAdded, ItemDone, ModelRequest, Opened, TextDelta
from clew.config.providers import OFFLINE, Provider
from clew.history.compaction import replacement_history, summary_text
from clew.testing.offline import OfflineModel

pytestmark = pytest.mark.anyio

PROVIDER = Provider(id=OFFLINE, name="Offline")
TOOLS: list[dict[str, Any]] = [
    {"type": "function", "name": "exec_command"},
    {"type": "function", "name": "write_stdin"},
    {"type": "custom", "name": "apply_patch"},
]


async def answer(request: ModelRequest) -> dict[str, Any]:
    [done] = [event for event in await listen(OfflineModel(), request) if isinstance(event, ItemDone)]
    assert msgspec.json.decode(done.raw) == done.item
    return done.item


class Talk:
    """A conversation that keeps its history the way a session does."""

    def __init__(self, tools: list[dict[str, Any]] | None = None) -> None:
        self.items: list[dict[str, Any]] = []
        self.tools = TOOLS if tools is None else tools

    async def next(self, **changes: Any) -> dict[str, Any]:
        item = await answer(asking(PROVIDER, input=list(self.items), tools=self.tools, **changes))
        self.items.append(item)
        return item

    async def say(self, text: str, **changes: Any) -> str:
        self.items.append(user(text))
        item = await self.next(**changes)
        assert item["type"] == "message", item
        return item["content"][0]["text"]

    def output(self, text: str) -> None:
        call = self.items[-1]
        kind = f"{call['type']}_output"
        self.items.append({"type": kind, "call_id": call["call_id"], "output": text})

    async def compact(self) -> None:
        request = asking(PROVIDER, input=[*self.items, user("Sum up.")], request_kind="compaction")
        summary = (await answer(request))["content"][0]["text"]
        self.items = replacement_history(self.items, summary_text(summary), context=[])


def ran(text: str, code: int = 0) -> str:
    ended = f"Process exited with code {code}"
    return f"Chunk ID: abc123\nWall time: 0.1 seconds\n{ended}\nOriginal token count: 1\nOutput:\n{text}"


async def test_it_streams_its_words_and_counts_tokens() -> None:
    request = asking(PROVIDER, "say: one two  three")
    events = await listen(OfflineModel(), request)
    assert [type(event) for event in events[:3]] == [Opened, Created, ItemAdded]
    done = next(event for event in events if isinstance(event, ItemDone))
    pieces = [event.text for event in events if isinstance(event, TextDelta)]
    assert ("".join(pieces), len(pieces)) == ("one two  three", 3)
    usage = completed(events).usage
    assert usage is not None
    assert usage.output_tokens == -(-len(done.raw) // 4)
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens
    assert usage.input_tokens > 10


async def test_the_same_request_has_the_same_answer_and_another_turn_other_ids() -> None:
    request = asking(PROVIDER, "hello")
    assert await answer(request) == await answer(request)
    assert (await answer(request))["id"] != (await answer(msgspec.structs.replace(request, turn_id="turn-2")))["id"]


async def test_it_remembers_facts_across_turns() -> None:
    talk = Talk()
    assert await talk.say("My favorite number is 41, please remember it.") == "Noted: your favorite number is 41."
    assert await talk.say("Remember: the door opens inwards") == "Noted: the door opens inwards."
    assert await talk.say("remember that our code word is heron") == "Noted: our code word is heron."
    assert await talk.say("What is my favourite number?") == "Your favorite number is 41."
    assert await talk.say("What's the code word?") == "Our code word is heron."
    assert await talk.say("Which way does the door open?") == "You asked me to remember: the door opens inwards"
    assert await talk.say("My favourite number is 7.") == "Noted: your favourite number is 7."
    assert await talk.say("Tell me my favourite number") == "Your favourite number is 7."
    assert await talk.say("What do you remember?") == (
        "What you told me:\n- your favourite number is 7\n- our code word is heron\n- the door opens inwards"
    )
    assert (await talk.say("What is my name?")).startswith("You have not told me that yet.")


async def test_it_quotes_what_was_said_and_counts_turns() -> None:
    talk = Talk()
    talk.items = [user("<environment_context>\n  <cwd>/x</cwd>\n</environment_context>")]
    await talk.say("The weather is fine.")
    await talk.say("say: ok")
    assert await talk.say("What did I tell you first?") == 'You first told me: "The weather is fine."'
    assert await talk.say("What did I say before?") == 'Before this you told me: "What did I tell you first?"'
    assert await talk.say("How many turns have we had?") == "This is turn 5 of our thread."


async def test_it_runs_commands_one_after_another_and_reports() -> None:
    talk = Talk()
    talk.items.append(user("Please run `echo hi` first.\nrun: false"))
    first = await talk.next()
    assert (first["name"], msgspec.json.decode(first["arguments"])) == ("exec_command", {"cmd": "echo hi"})
    talk.output(ran("hi\n"))
    second = await talk.next()
    assert msgspec.json.decode(second["arguments"]) == {"cmd": "false"}
    assert first["call_id"] != second["call_id"]
    talk.output(ran("", 1))
    assert (await talk.next())["content"][0]["text"] == (
        "`echo hi` ended with exit code 0 and printed:\nhi\n\n`false` ended with exit code 1 and printed nothing."
    )
    assert await talk.say("say: and on") == "and on"


@pytest.mark.parametrize(
    ("text", "cmd"),
    [("list the files", "ls"), ("Can you list files in src/a b?", "ls src/a"), ("show README.md", "cat README.md")],
)
async def test_plain_words_become_commands(text: str, cmd: str) -> None:
    call = await answer(asking(PROVIDER, text, tools=TOOLS))
    assert msgspec.json.decode(call["arguments"]) == {"cmd": cmd}


async def test_it_waits_for_commands_that_take_longer() -> None:
    talk = Talk()
    talk.items.append(user("run: make"))
    await talk.next()
    talk.output("Chunk ID: a\nWall time: 10 seconds\nProcess running with session ID 77\nOutput:\nhalf ")
    poll = await talk.next()
    assert (poll["name"], msgspec.json.decode(poll["arguments"])["session_id"]) == ("write_stdin", 77)
    talk.output(ran("whole"))
    assert (await talk.next())["content"][0]["text"] == "`make` ended with exit code 0 and printed:\nhalf whole"


async def test_it_asks_for_full_access_and_takes_no_for_an_answer() -> None:
    talk = Talk()
    talk.items.append(user("run with full access: rm x"))
    call = await talk.next()
    assert msgspec.json.decode(call["arguments"]) == {
        "cmd": "rm x",
        "sandbox_permissions": "require_escalated",
        "justification": "Run `rm x` with full access?",
    }
    talk.output("exec_command failed: rejected by user")
    assert (await talk.next())["content"][0]["text"] == "`rm x` did not run: exec_command failed: rejected by user"


async def test_it_writes_files_by_patch_in_whatever_form_is_offered() -> None:
    patch = "*** Begin Patch\n*** Add File: a.txt\n+one\n+two\n*** End Patch\n"
    text = "write a.txt:\none\ntwo"
    call = await answer(asking(PROVIDER, text, tools=TOOLS))
    assert (call["type"], call["name"], call["input"]) == ("custom_tool_call", "apply_patch", patch)
    call = await answer(asking(PROVIDER, text, tools=[{"type": "function", "name": "apply_patch"}]))
    assert msgspec.json.decode(call["arguments"]) == {"input": patch}
    call = await answer(asking(PROVIDER, text, tools=TOOLS[:1]))
    assert msgspec.json.decode(call["arguments"]) == {"cmd": f"apply_patch <<'END_OF_PATCH'\n{patch}END_OF_PATCH"}
    talk = Talk()
    talk.items.append(user("write a.txt: hello"))
    await talk.next()
    talk.output("Exit code: 0\nWall time: 0.1 seconds\nOutput:\nSuccess. Updated the following files:\nA a.txt\n")
    assert (await talk.next())["content"][0]["text"] == "I wrote a.txt."


async def test_without_tools_it_says_so() -> None:
    assert await Talk([]).say("run: ls") == "I have no tool here to run commands with."


async def test_memory_survives_compaction() -> None:
    talk = Talk()
    await talk.say("Hello, my favourite number is 41")
    await talk.say("remember: feed the heron")
    await talk.compact()
    talk.items = [item for item in talk.items if "Summary by" in str(item)]  # as if no message had fitted
    assert await talk.say("What is my favourite number?") == "Your favourite number is 41."
    assert await talk.say("What about the heron?") == "You asked me to remember: feed the heron"
    assert await talk.say("What did I say first?") == 'You first told me: "Hello, my favourite number is 41"'
    assert await talk.say("How many turns?") == "This is turn 6 of our thread."


async def test_a_compaction_within_a_turn_repeats_no_action() -> None:
    talk = Talk()
    talk.items.append(user("run: one\nrun: two"))
    await talk.next()
    talk.output(ran("1"))
    await talk.compact()
    assert msgspec.json.decode((await talk.next())["arguments"]) == {"cmd": "two"}
    talk.output(ran("2"))
    assert (await talk.next())["content"][0]["text"] == (
        "1 of 2 steps were done before the history was summarised.\n\n`two` ended with exit code 0 and printed:\n2"
    )


async def test_images_are_acknowledged() -> None:
    content = [
        {"type": "input_text", "text": "look"},
        {"type": "input_text", "text": '<image name=[Image #1] path="/x/p.png">'},
        {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
        {"type": "input_text", "text": "</image>"},
    ]
    item = await answer(asking(PROVIDER, input=[{"type": "message", "role": "user", "content": content}]))
    assert item["content"][0]["text"].startswith("You sent an image;")


async def test_an_output_schema_is_followed() -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}, "answer": {"type": "string"}, "more": {"type": "string"}},
        "required": ["ok", "answer"],
        "additionalProperties": False,
    }
    assert msgspec.json.decode(await Talk().say("say: pong", output_schema=schema)) == {"ok": False, "answer": "pong"}


async def test_what_it_does_not_understand_it_says_with_a_way_on() -> None:
    for text in ("Refactor the build", "Hello there", ""):
        said = await Talk().say(text)
        assert "offline model" in said
        assert "model_provider" in said
