"""When to ask an endpoint again, and after how long.

Two loops: the client repeats an HTTP request that failed before any event (`RequestRetries`), unseen; the session
repeats a response that failed or broke off (`StreamRetries`), announced, because a repetition carries the history as
it is by then.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from clew.config.providers import Provider
from clew.errors import ClewError, EndpointUnreachable, ModelError

__all__ = ["FINAL_KINDS", "RequestRetries", "StreamRetries", "backoff", "named_wait"]

MOST_RETRIES = 100
LONGEST_BACKOFF = 60.0
"""Seconds; reached after nine tries."""
LONGEST_QUIET_WAIT = 60.0
"""Seconds the client waits by itself when the endpoint names a time; longer waits are announced by the session."""
LONGEST_WAIT = 3600.0
"""Seconds an endpoint may ask for before the turn fails instead."""

FINAL_KINDS = frozenset(
    {
        "config",
        "context_length_exceeded",
        "cyber_policy",
        "insufficient_quota",
        "invalid_prompt",
        "max_output_tokens",
        "not_a_stream",
        "server_is_overloaded",
        "usage_limit_reached",
        "usage_not_included",
    }
)
"""Kinds of `ModelError` that asking again cannot cure."""

_UNITS = {
    **dict.fromkeys(("ms", "millisecond"), 0.001),
    **dict.fromkeys(("s", "sec", "second"), 1.0),
    **dict.fromkeys(("m", "min", "minute"), 60.0),
    **dict.fromkeys(("h", "hour"), 3600.0),
}
_PART = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]+)", re.I)
_WAIT = re.compile(r"try again in\s+((?:\d+(?:\.\d+)?\s*[a-z]+\s*)+)", re.I)


def backoff(attempt: int, chance: Callable[[], float] = random.random) -> float:
    """Seconds before repetition number `attempt` (from 0): 200 ms doubled each time, ± 10 %."""
    return min(0.2 * 2.0 ** min(attempt, 20), LONGEST_BACKOFF) * (0.9 + 0.2 * chance())


def named_wait(text: str) -> float | None:
    """The seconds in a sentence like "Please try again in 1.5s" or "in 6m0s", None if it names none."""
    found = _WAIT.search(text)
    if found is None:
        return None
    total, known = 0.0, False
    for number, unit in _PART.findall(found[1]):
        factor = _UNITS.get(unit.lower()) or _UNITS.get(unit.lower().removesuffix("s"))
        if factor is None:
            break
        total, known = total + float(number) * factor, True
    return total if known else None


class RequestRetries:
    """The inner loop of one HTTP request: server errors, lost connections, and limits that name a time."""

    def __init__(self, provider: Provider, chance: Callable[[], float] = random.random) -> None:
        self._left = max(0, min(provider.request_max_retries, MOST_RETRIES))
        self._chance = chance
        self._attempt = 0

    def next_delay(self, error: ModelError) -> float | None:
        """Seconds to wait before the next try; None: give up with this error."""
        if self._left == 0 or _is_final(error) or isinstance(error, EndpointUnreachable):
            return None
        status = error.status or 0
        if error.retry_after is not None and status in (429, 503):
            if error.retry_after > LONGEST_QUIET_WAIT:
                return None
            delay = error.retry_after
        elif status >= 500 or error.kind == "connection":
            delay = backoff(self._attempt, self._chance)
        else:
            return None
        self._left -= 1
        self._attempt += 1
        return delay


class StreamRetries:
    """The outer loop of one request of a turn; make a new one for each request.

    `attempt` counts the repetitions granted so far, `most` is `stream_max_retries`.
    """

    def __init__(self, provider: Provider, chance: Callable[[], float] = random.random) -> None:
        self.most = max(0, min(provider.stream_max_retries, MOST_RETRIES))
        self.attempt = 0
        self._chance = chance

    def next_delay(self, error: ClewError) -> float | None:
        """Seconds to wait before asking again with the history as it is then; None: the turn fails with `error`."""
        if self.attempt >= self.most or not isinstance(error, ModelError) or _is_final(error):
            return None
        if error.status == 429 and error.retry_after is None:
            return None
        if error.retry_after is not None and error.retry_after > LONGEST_WAIT:
            return None
        delay = error.retry_after if error.retry_after is not None else backoff(self.attempt, self._chance)
        self.attempt += 1
        return delay

    def notice(self, error: ClewError) -> str:
        """What to tell people after `next_delay` granted a repetition."""
        return f"Reconnecting... {self.attempt}/{self.most} ({error.message})"


def _is_final(error: ModelError) -> bool:
    return error.kind in FINAL_KINDS or error.status in (400, 401)
