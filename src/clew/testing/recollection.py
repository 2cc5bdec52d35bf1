"""What a request's input says about a conversation: the offline model's memory, read anew every time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, cast

import msgspec

from clew.history.compaction import SUMMARY_PREFIX, is_summary
from clew.history.contextual import is_contextual

__all__ = ["Call", "Fact", "Recollection", "is_question", "learn", "plain_words", "recollect"]

_HEAD = "Summary by clew's offline model."
_SENTENCES = re.compile(r"(?<=[.!?])\s+|\n+|;\s+")
_OPENING = r"(?:(?:please|and|also|so|ok|okay|hi|hello|note|by the way)\b[,:]?\s+)*"
_REMEMBER = re.compile(
    rf"^{_OPENING}(?:remember|note|keep in mind|don't forget)(?:\s*:\s*|\s+that\s+|\s+)(?P<what>.+)$", re.I
)
_FACT = re.compile(
    rf"^{_OPENING}(?:that\s+)?(?P<whose>my|our|the)\s+(?P<what>[\w'-]+(?: [\w'-]+){{0,5}}?)\s+(?P<verb>is|are|=)\s+"
    r"(?P<value>.+?)[.!]*$",
    re.I,
)
_AFTERTHOUGHT = re.compile(r"\s*[,;.]?\s+(?:and\s+)?(?:please|remember|don't forget|keep|reply|answer|just)\b.*$", re.I)
_QUESTION = re.compile(
    rf"^{_OPENING}(?:what|which|who|whose|where|when|how|do you|did|tell me|can you tell|repeat|recall|name)\b", re.I
)
_SPELLINGS = {"favorite": "favourite", "color": "colour"}
_WORD = re.compile(r"[\w'-]+")


class Fact(msgspec.Struct, frozen=True):
    """`whose` is my, our or the; `verb` is or are. "my favourite number is 41"."""

    whose: str
    what: str
    verb: str
    value: str

    def told_back(self) -> str:
        """The sentence as the other side of the conversation says it."""
        whose = {"my": "your", "our": "our"}.get(self.whose, "the")
        return f"{whose} {self.what} {self.verb} {self.value}"


class Call(msgspec.Struct):
    """A tool call of this turn and what came back (None: nothing yet)."""

    call_id: str
    name: str
    output: str | None = None


class Recollection(msgspec.Struct):
    """What was said: the user's `messages` of this window, oldest first, and what all windows added up to.

    `turn` counts the user's messages from 1. `calls` are those since the newest message, `done` the actions that a
    compaction in the middle of the turn took out of sight. `images` came with the newest message.
    """

    messages: list[str] = []
    first: str = ""
    turn: int = 0
    facts: dict[str, Fact] = {}
    notes: list[str] = []
    calls: list[Call] = []
    done: int = 0
    images: int = 0

    @property
    def newest(self) -> str:
        return self.messages[-1] if self.messages else ""

    def told(self, question: str) -> list[str]:
        """Sentences that answer `question` from memory."""
        asked = plain_words(question)
        answers = [f"{_capital(fact.told_back())}." for key, fact in self.facts.items() if set(key.split()) <= asked]
        if not answers:
            answers = [f"You asked me to remember: {note}" for note in self.notes if _telling(note) & asked]
        return answers

    def summary(self, actions: int) -> str:
        """All of it as text for the next window; `actions` of the newest message are done."""
        lines = [_HEAD, f"Turns so far: {self.turn}", f"First message: {_line(self.first)}"]
        lines += [f"Fact: {fact.whose} {fact.what} {fact.verb} {_line(fact.value)}" for fact in self.facts.values()]
        lines += [f"Note: {_line(note)}" for note in self.notes]
        return "\n".join([*lines, f"Actions done for the newest message: {actions}"])


def recollect(items: Iterable[dict[str, Any]]) -> Recollection:
    """Read the input of a request."""
    memory = Recollection()
    for item in items:
        kind = item.get("type", "message")
        if kind == "message" and item.get("role") == "user":
            if is_summary(item):
                _take_summary(memory, _text(item.get("content")).removeprefix(SUMMARY_PREFIX))
            elif not is_contextual(item):
                _take_message(memory, item)
        elif kind in ("function_call", "custom_tool_call"):
            memory.calls.append(Call(str(item.get("call_id")), str(item.get("name"))))
        elif kind in ("function_call_output", "custom_tool_call_output"):
            for call in memory.calls:
                if call.call_id == item.get("call_id"):
                    call.output = _text(item.get("output"))
    return memory


def is_question(sentence: str) -> bool:
    return sentence.rstrip().endswith("?") or _QUESTION.match(sentence) is not None


def plain_words(text: str) -> set[str]:
    """The words of a text in one spelling."""
    words = (word.removesuffix("'s") for word in cast("list[str]", _WORD.findall(text.casefold())))
    return {_SPELLINGS.get(word, word) for word in words}


def learn(memory: Recollection, text: str) -> list[str]:
    """Keep what a message tells; returns it as sentences for an answer."""
    learned: list[str] = []
    for sentence in _SENTENCES.split(text):
        remember = _REMEMBER.match(sentence)
        what = (remember["what"] if remember else sentence).strip()
        if is_question(what) or (not remember and is_question(sentence)):
            continue
        if fact := _FACT.match(what):
            value = _AFTERTHOUGHT.sub("", fact["value"]).strip()
            verb = "is" if fact["verb"] == "=" else fact["verb"].lower()
            known = Fact(fact["whose"].lower(), fact["what"], verb, value)
            memory.facts[" ".join(_SPELLINGS.get(word, word) for word in known.what.casefold().split())] = known
            learned.append(known.told_back())
        elif remember:
            memory.notes.append(what)
            learned.append(what)
    return learned


def _take_message(memory: Recollection, item: dict[str, Any]) -> None:
    parts = _parts(item.get("content"))
    text = "\n".join(part for part in (_text([part]) for part in parts) if part)
    memory.messages.append(text)
    memory.images = sum(part.get("type") == "input_image" for part in parts)
    memory.turn += 1
    memory.first = memory.first or text
    memory.calls, memory.done = [], 0
    learn(memory, text)


def _take_summary(memory: Recollection, text: str) -> None:
    # The messages that were kept stand in front of the summary, which has counted them already.
    for line in text.splitlines():
        name, _, value = line.partition(": ")
        if name == "Turns so far":
            memory.turn = int(value) if value.isdecimal() else memory.turn
        elif name == "First message":
            memory.first = value or memory.first
        elif name == "Fact":
            learn(memory, value)
        elif name == "Note" and value not in memory.notes:
            memory.notes.append(value)
        elif name == "Actions done for the newest message":
            memory.done = int(value) if value.isdecimal() else 0


def _parts(content: object) -> Sequence[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "input_text", "text": content}]
    return cast("Sequence[dict[str, Any]]", content) if isinstance(content, list) else []


def _text(content: object) -> str:
    texts = [str(part.get("text") or "") for part in _parts(content)]
    return "\n".join(text for text in texts if text and not text.startswith(("<image name=", "</image>")))


def _telling(text: str) -> set[str]:
    return {word for word in plain_words(text) if len(word) > 3 or word.isdecimal()}


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _line(text: str) -> str:
    return " ".join(text.split())
