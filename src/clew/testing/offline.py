"""A model that needs no network and no key: small, deterministic, and honest about it.

It remembers what it is told, answers from the history it is sent, runs commands, writes files, asks for more rights
and gives summaries, so that threads, tools and approvals can be seen and tested anywhere:

    my favourite number is 41 · what is my favourite number? · what did I tell you first? · how many turns?
    run: CMD · run with full access: CMD · list the files · write FILE: TEXT · say: TEXT
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Any

import anyio
import anyio.lowlevel
import msgspec

from clew.agent.model.contracts import (
    Completed,
    Created,
    ItemAdded,
    ItemDone,
    ModelEvent,
    ModelRequest,
    Opened,
    TextDelta,
)
from clew.events import Usage
from clew.testing.instances import instance
from clew.testing.recollection import Call, Recollection, is_question, learn, recollect

__all__ = ["OfflineModel"]

_ABOUT = (
    "I am clew's offline model: no network, no key, and few words. Tell me `my favourite number is 41` and ask for it "
    "later, or try `run: CMD`, `list the files`, `write FILE: TEXT`. For a real model, set `model` and "
    "`model_provider` in config.toml, and its API key in the environment."
)
_MOST_POLLS = 20
_LONGEST_REPORT = 2000
"""Characters of a command's output that are repeated in an answer."""

_POLITE = r"(?:(?:please|now|then|and|can you|could you)\s+)*"
_RUN = re.compile(rf"^\s*{_POLITE}run(?P<full> with full access)?\s*:\s*(?P<cmd>.+)$", re.I)
_RUN_QUOTED = re.compile(r"\brun\s+(?:the command\s+|this:?\s+)?`(?P<cmd>[^`]+)`(?P<full>\s+with full access)?", re.I)
_LIST = re.compile(r"\blist\s+(?:all\s+)?(?:the\s+|my\s+)?files(?:\s+in\s+(?P<where>[^\s?!,]*[^\s?!,.]))?", re.I)
_READ = re.compile(
    rf"^\s*{_POLITE}(?:read|show|print)\s+(?:the\s+)?(?:file\s+)?`?(?P<path>[\w~/.-]*\.\w+)`?[.?!]*\s*$", re.I
)
_WRITE = re.compile(rf"^\s*{_POLITE}write\s+`?(?P<path>[^\s:`]+)`?\s*:\s?(?P<text>.*)$", re.I)
_SAY = re.compile(
    rf"^\s*{_POLITE}(?:say|echo|reply with|answer with)(?:\s+exactly)?\s*:?\s+(?P<text>\S.*)$", re.I | re.S
)
_EXIT = re.compile(r"^Process exited with code (-?\d+)$", re.M)
_RUNNING = re.compile(r"^Process running with session ID (\d+)$", re.M)
_TALK = r"\b(?:tell|told|say|said|ask|asked|message|prompt|write|wrote)\b"
_GREETING = re.compile(r"^\s*(?:hi|hello|hey|good (?:morning|day|evening))\b", re.I)


class _Action(msgspec.Struct, frozen=True):
    """Something a message asks for: a command, or with `path` a file to write with the text of `cmd`."""

    cmd: str
    escalated: bool = False
    path: str | None = None


class OfflineModel:
    """The `ModelClient` of the provider `offline`. The same request always gets the same answer.

    `pace` are seconds between two words, for people to watch.
    """

    def __init__(self, *, pace: float = 0.0, sleep: Callable[[float], Awaitable[None]] = anyio.sleep) -> None:
        self._pace = pace
        self._sleep = sleep

    async def stream(self, request: ModelRequest) -> AsyncGenerator[ModelEvent]:
        """Answer. See `ModelClient`."""
        sent = msgspec.json.encode([request.instructions, request.input, request.tools])
        mark = hashlib.sha256(b"%b\n%b" % (request.turn_id.encode(), sent)).hexdigest()
        yield Opened()
        yield Created(f"resp_{mark[:32]}")
        item = _answer(request, mark)
        if item["type"] == "message":
            text: str = item["content"][0]["text"]
            yield ItemAdded({**item, "status": "in_progress", "content": []})
            for word in re.findall(r"\s*\S+\s*", text):
                await (self._sleep(self._pace) if self._pace else anyio.lowlevel.checkpoint())
                yield TextDelta(item["id"], word)
        else:
            yield ItemAdded({**item, "status": "in_progress"})
            await anyio.lowlevel.checkpoint()
        raw = msgspec.json.encode(item)
        yield ItemDone(raw, item)
        asked, said = -(-len(sent) // 4), -(-len(raw) // 4)
        usage = Usage(input_tokens=asked, output_tokens=said, total_tokens=asked + said)
        yield Completed(response_id=f"resp_{mark[:32]}", usage=usage)

    async def close(self) -> None:
        """Nothing is open."""


def _answer(request: ModelRequest, mark: str) -> dict[str, Any]:
    if request.request_kind == "compaction":
        # The last message is the request for the summary, not a part of the conversation.
        memory = recollect(request.input[:-1])
        return _message(memory.summary(memory.done + len(_own(memory.calls))), mark)
    memory = recollect(request.input)
    actions = _actions(memory.newest)
    tools = _tool_kinds(request.tools)
    step = _next_step(memory, actions, tools, mark)
    if step is not None:
        return step
    said = _report(memory, actions, tools) if actions else _reply(memory)
    if request.output_schema is not None:
        said = msgspec.json.encode(instance(request.output_schema, said)).decode()
    return _message(said, mark)


def _message(text: str, mark: str) -> dict[str, Any]:
    content = [{"type": "output_text", "annotations": list[Any](), "text": text}]
    return {"type": "message", "id": f"msg_{mark[:32]}", "status": "completed", "role": "assistant", "content": content}


def _function(name: str, arguments: dict[str, Any], mark: str) -> dict[str, Any]:
    text = msgspec.json.encode(arguments).decode()
    named = {"id": f"fc_{mark[:32]}", "call_id": f"call_{mark[32:56]}", "name": name, "arguments": text}
    return {"type": "function_call", "status": "completed", **named}


def _tool_kinds(tools: Sequence[dict[str, Any]]) -> dict[str, str]:
    return {str(tool.get("name")): str(tool.get("type")) for tool in tools}


def _own(calls: Sequence[Call]) -> list[Call]:
    return [call for call in calls if call.name != "write_stdin"]


def _actions(text: str) -> list[_Action]:
    actions: list[_Action] = []
    lines = text.splitlines()
    for place, line in enumerate(lines):
        if found := _WRITE.match(line):
            if not found["text"].strip():
                rest = "\n".join(lines[place + 1 :])
                return [*actions, _Action(rest, path=found["path"])]
            actions.append(_Action(found["text"], path=found["path"]))
        elif found := _RUN.match(line):
            actions.append(_Action(found["cmd"].strip().strip("`"), escalated=found["full"] is not None))
        elif quoted := list(_RUN_QUOTED.finditer(line)):
            actions += [_Action(each["cmd"], escalated=each["full"] is not None) for each in quoted]
        elif found := _LIST.search(line):
            actions.append(_Action(f"ls {shlex.quote(found['where'])}" if found["where"] else "ls"))
        elif found := _READ.match(line):
            actions.append(_Action(f"cat {shlex.quote(found['path'])}"))
    return actions


def _next_step(
    memory: Recollection, actions: Sequence[_Action], tools: dict[str, str], mark: str
) -> dict[str, Any] | None:
    """The call that is due, None when everything asked for is done or cannot be done."""
    session = _running(memory.calls)
    if session is not None and "write_stdin" in tools:
        return _function("write_stdin", {"session_id": session, "chars": "", "yield_time_ms": 30_000}, mark)
    done = memory.done + len(_own(memory.calls))
    if done >= len(actions):
        return None
    action = actions[done]
    if action.path is not None:
        body = "".join(f"+{line}\n" for line in action.cmd.splitlines() or [""])
        patch = f"*** Begin Patch\n*** Add File: {action.path}\n{body}*** End Patch\n"
        match tools.get("apply_patch"):
            case "custom":
                named = {"id": f"ctc_{mark[:32]}", "call_id": f"call_{mark[32:56]}", "name": "apply_patch"}
                return {"type": "custom_tool_call", "status": "completed", **named, "input": patch}
            case "function":
                return _function("apply_patch", {"input": patch}, mark)
            case _:
                action = _Action(f"apply_patch <<'END_OF_PATCH'\n{patch}END_OF_PATCH")
    rights: dict[str, str] = {}
    if action.escalated:
        why = f"Run `{action.cmd}` with full access?"
        rights = {"sandbox_permissions": "require_escalated", "justification": why}
    if "exec_command" in tools:
        return _function("exec_command", {"cmd": action.cmd, **rights}, mark)
    if "shell_command" in tools:
        return _function("shell_command", {"command": action.cmd, **rights}, mark)
    return None


def _running(calls: Sequence[Call]) -> int | None:
    """The session of a command that should be waited for."""
    polls = 0
    for call in reversed(calls):
        if call.name != "write_stdin":
            break
        polls += 1
    found = _RUNNING.search(calls[-1].output or "") if calls else None
    return int(found[1]) if found is not None and polls < _MOST_POLLS else None


def _report(memory: Recollection, actions: Sequence[_Action], tools: dict[str, str]) -> str:
    outputs: list[list[str]] = []
    for call in memory.calls:
        if call.name != "write_stdin" or not outputs:
            outputs.append([])
        outputs[-1].append(call.output or "")
    told = [_outcome(action, output) for action, output in zip(actions[memory.done :], outputs, strict=False)]
    if memory.done:
        told.insert(0, f"{memory.done} of {len(actions)} steps were done before the history was summarised.")
    if memory.done + len(outputs) < len(actions):
        told.append("I have no tool here to run commands with.")
    return "\n\n".join(told)


def _outcome(action: _Action, outputs: Sequence[str]) -> str:
    last = outputs[-1]
    if action.path is not None:
        return f"I wrote {action.path}." if "Success." in last else f"I did not write {action.path}: {_short(last)}"
    printed = _short("".join(output.partition("Output:\n")[2] for output in outputs).strip("\n"))
    tail = f" and printed:\n{printed}" if printed else " and printed nothing."
    if ended := _EXIT.search(last):
        return f"`{action.cmd}` ended with exit code {ended[1]}{tail}"
    if _RUNNING.search(last):
        return f"`{action.cmd}` is still running{tail}"
    return f"`{action.cmd}` did not run: {_short(last)}"


def _reply(memory: Recollection) -> str:
    text = memory.newest
    if found := _SAY.match(text):
        return found["text"].strip().strip("\"'`")
    said: list[str] = []
    if memory.images:
        pictures = "an image" if memory.images == 1 else f"{memory.images} images"
        said.append(f"You sent {pictures}; the offline model keeps pictures in the thread but cannot look at them.")
    learned = learn(Recollection(), text)
    if learned:
        said.append(f"Noted: {'; '.join(learned)}.".replace("..", "."))
    said += [
        answer
        for sentence in re.split(r"(?<=[?.!])\s+|\n+", text)
        if is_question(sentence)
        for answer in _recall(memory, sentence)
    ]
    if said:
        return "\n".join(said)
    return f"Hello! {_ABOUT}" if _GREETING.match(text) else _ABOUT


def _recall(memory: Recollection, question: str) -> list[str]:
    asked = question.casefold()
    if re.search(r"how many (?:turns|messages|times)|which turn|turn number", asked):
        return [f"This is turn {memory.turn} of our thread."]
    if re.search(r"\bfirst\b", asked) and re.search(
        r"\b(?:tell|told|say|said|ask|asked|message|prompt|write|wrote)\b", asked
    ):
        return [f'You first told me: "{memory.first}"']
    if re.search(r"\b(?:last|previous|just|before)\b", asked) and re.search(_TALK, asked):
        before = memory.messages[-2] if len(memory.messages) > 1 else None
        return [f'Before this you told me: "{before}"' if before else "This is your first message."]
    if answers := memory.told(question):
        return answers
    if re.search(r"what (?:do|can) you (?:remember|know|recall)|what have i told|what did i tell", asked):
        known = [f"- {fact.told_back()}" for fact in memory.facts.values()] + [f"- {note}" for note in memory.notes]
        return ["\n".join(["What you told me:", *known]) if known else "You have not told me any facts yet."]
    if unknown := re.search(r"(?:\bis|\bare|'s) (my|our) ([\w' -]+)", asked):
        return [f"You have not told me that yet. Say `{unknown[1]} {unknown[2].strip()} is …` and I will know."]
    return []


def _short(text: str) -> str:
    text = text.strip()
    return text if len(text) <= _LONGEST_REPORT else f"{text[:_LONGEST_REPORT]} …"
