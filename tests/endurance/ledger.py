"""What was asked and answered, and what must therefore stand in every log and every request."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Any

from drivers import Request, Told, answer

__all__ = ["Ledger", "Lost"]


class Lost(AssertionError):
    """A promise was broken."""


class _Thread:
    def __init__(self) -> None:
        self.sent: dict[str, int] = {}
        self.acked: dict[str, int] = {}
        self.blocks: dict[str, list[Told]] = {}
        """What the model was told of each answered turn, behind its user text."""


class Ledger:
    """Every user text is used once, so it names its turn."""

    def __init__(self) -> None:
        self._ticks = itertools.count(1)
        self._threads: dict[str, _Thread] = {}
        self._owners: dict[str, str] = {}

    def expect(self, thread_id: str, text: str) -> None:
        """A reply is about to be sent."""
        self._threads.setdefault(thread_id, _Thread()).sent[text] = next(self._ticks)
        self._owners[text] = thread_id

    def answered(self, thread_id: str, text: str, requests: Sequence[Request]) -> None:
        """The reply was answered; `requests` holds, among others, those of its turn."""
        thread = self._threads[thread_id]
        thread.acked[text] = next(self._ticks)
        mine = [request for request in requests if request.users[-1:] == [text]]
        if not mine:
            raise Lost(f"{text!r} was answered, but the model was never asked")
        thread.blocks[text] = [*_blocks(mine[-1].told)[text], ("assistant", answer(text))]

    @property
    def acknowledged(self) -> int:
        return sum(len(thread.acked) for thread in self._threads.values())

    def check_request(self, request: Request) -> None:
        """The request tells every answered turn before its own once, whole and in order, and closes every call."""
        told = request.told
        text = request.users[-1]
        thread_id = self._owners.get(text, "")
        thread = self._threads.get(thread_id)
        if thread is None:  # the first request of a thread whose id nobody knows yet
            return
        due = {each for each, tick in thread.acked.items() if tick < thread.sent[text]}
        self._check(f"the request for {text!r} of {thread_id}", thread, told, due)
        _check_calls(f"the request for {text!r} of {thread_id}", told)

    def check_log(self, thread_id: str, lines: Sequence[dict[str, Any]]) -> set[str]:
        """The log holds every answered turn once, whole and in order, and its ordinals have no gap. Gives the
        unanswered texts that stand in it all the same."""
        where = f"the log of {thread_id}"
        ordinals = [line["ordinal"] for line in lines if "ordinal" in line]
        if ordinals and ordinals != list(range(len(lines))):
            raise Lost(f"{where}: ordinals are {ordinals}")
        thread = self._threads[thread_id]
        items = [line["payload"] for line in lines if line["type"] == "response_item"]
        told = Request({"input": items}).told
        self._check(where, thread, told, set(thread.acked))
        calls = Counter(line[:2] for line in told if line[0] in {"call", "output"})
        _none_twice(where, calls)
        return {line[1] for line in told if line[0] == "user"} - set(thread.acked)

    def _check(self, where: str, thread: _Thread, told: Sequence[Told], due: set[str]) -> None:
        users = [line[1] for line in told if line[0] == "user"]
        _none_twice(where, Counter(users))
        if foreign := set(users) - set(thread.sent):
            raise Lost(f"{where}: {sorted(foreign)} belong elsewhere")
        if missing := due - set(users):
            raise Lost(f"{where}: {sorted(missing)} were answered and are missing")
        latest = 0
        for text in users:
            if thread.acked.get(text, latest) < latest:
                raise Lost(f"{where}: {text!r} was answered before something in front of it was asked")
            latest = max(latest, thread.sent[text])
        blocks = _blocks(told)
        for text in due:
            if blocks[text] != thread.blocks[text]:
                raise Lost(f"{where}: {text!r} is followed by {blocks[text]}, not by {thread.blocks[text]}")


def _none_twice(where: str, counts: Counter[Any]) -> None:
    if twice := [each for each, count in counts.items() if count > 1]:
        raise Lost(f"{where}: more than once: {twice}")


def _check_calls(where: str, told: Sequence[Told]) -> None:
    calls = [line[1] for line in told if line[0] == "call"]
    outputs = [line[1] for line in told if line[0] == "output"]
    if len(set(calls)) != len(calls) or sorted(calls) != sorted(outputs):
        raise Lost(f"{where}: calls {calls} have the outputs {outputs}")


def _blocks(told: Sequence[Told]) -> dict[str, list[Told]]:
    """What follows each user text."""
    blocks: dict[str, list[Told]] = {}
    block: list[Told] = []
    for line in told:
        if line[0] == "user":
            block = blocks.setdefault(line[1], [])
        else:
            block.append(line)
    return blocks
