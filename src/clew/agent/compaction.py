"""Ask the model for a summary and make the next window of it. Works with any endpoint: an ordinary request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Any, cast

import anyio
import msgspec

from clew.agent.model.contracts import Completed, ItemDone, ModelClient, ModelRequest
from clew.agent.model.retries import StreamRetries
from clew.errors import ContextFull, ModelError
from clew.events import Usage
from clew.history.compaction import replacement_history, summary_text

__all__ = ["Compaction", "summarise"]


class Compaction(msgspec.Struct, frozen=True):
    """`message` is the whole summary text as the log keeps it, `replacement` the items of the next window; `usage` are
    the tokens that the summary took, None where the endpoint did not say."""

    message: str
    replacement: list[dict[str, Any]]
    response_id: str = ""
    usage: Usage | None = None


async def summarise(
    model: ModelClient,
    items: Sequence[dict[str, Any]],
    request: Callable[[list[dict[str, Any]]], ModelRequest],
    *,
    prompt: str,
    context_messages: Sequence[dict[str, Any]],
    new_id: Callable[[], str],
    retries: StreamRetries,
    notify: Callable[[str], Awaitable[None]],
) -> Compaction:
    """Summarise `items` and give the next window: the user's own messages, the surroundings anew, the summary.

    When even this request is too long, the oldest items go until it fits. Raises `ModelError` when the model gives no
    summary after all retries; `notify` gets a sentence about each.
    """
    asked = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": prompt}]}
    left = list(items)
    while True:
        try:
            answer, completed = await _answer(model, request([*left, asked]))
            break
        except ContextFull:
            if not left:
                raise
            left = _without_oldest(left)
        except ModelError as error:
            delay = retries.next_delay(error)
            if delay is None:
                raise
            await notify(retries.notice(error))
            await anyio.sleep(delay)
    message = summary_text(answer)
    replacement = replacement_history(items, message, context=context_messages)
    named = [item if item.get("id") else {**item, "id": new_id()} for item in replacement]
    return Compaction(
        message, named, completed.response_id if completed else "", completed.usage if completed else None
    )


async def _answer(model: ModelClient, request: ModelRequest) -> tuple[str, Completed | None]:
    texts: list[str] = []
    completed: Completed | None = None
    async with aclosing(model.stream(request)) as stream:
        async for event in stream:
            if isinstance(event, ItemDone) and event.item.get("type") == "message":
                parts = cast("list[dict[str, Any]]", event.item.get("content") or [])
                texts += [str(part.get("text", "")) for part in parts if part.get("type") == "output_text"]
            elif isinstance(event, Completed):
                completed = event
    return texts[-1] if texts else "", completed


def _without_oldest(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Without the first item, nor its partner: a call without its output (or the reverse) would not be accepted."""
    call_id = items[0].get("call_id")
    return [item for item in items[1:] if call_id is None or item.get("call_id") != call_id]
