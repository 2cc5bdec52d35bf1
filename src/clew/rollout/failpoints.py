"""Named steps at which a crash would hurt, so that tests can crash, fail or stop exactly there.

A `FailPoints` is passed to whoever takes such steps; one without actions costs a dictionary look-up. The names:

    before_write  after_write  before_sync  after_sync        appending to a log
    after_create  before_folder_sync  after_folder_sync       a new name
    before_link  after_rename  before_unlink                  switching a file for another
"""

from __future__ import annotations

import errno
import os
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from clew.errors import BadRequest

__all__ = ["FAIL_POINTS", "FailPoints"]

FAIL_POINTS = frozenset(
    {
        "after_create",
        "after_folder_sync",
        "after_rename",
        "after_sync",
        "after_write",
        "before_folder_sync",
        "before_link",
        "before_sync",
        "before_unlink",
        "before_write",
    }
)

Action = Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Armed:
    action: Action
    at: int
    """The first hit that acts, from 1."""


class FailPoints:
    """What happens at which step. `hits` counts every step taken, armed or not."""

    def __init__(self, actions: Mapping[str, Action] | None = None) -> None:
        self._armed: dict[str, _Armed] = {}
        self.hits: Counter[str] = Counter()
        for name, action in (actions or {}).items():
            self.on(name, action)

    @classmethod
    def parse(cls, text: str) -> FailPoints:
        """From `name=action[@n]`, comma-separated. Actions: `kill` (SIGKILL to this process), `raise` (EIO), `full`
        (ENOSPC). `@n`: from the n-th time on. Raises `BadRequest` for anything else."""
        points = cls()
        for part in filter(None, (piece.strip() for piece in text.split(","))):
            name, equals, rest = part.partition("=")
            word, _, count = rest.partition("@")
            action = _ACTIONS.get(word)
            if not equals or action is None:
                raise BadRequest(
                    "fail points", f"{part!r} is not name=action with one of {', '.join(sorted(_ACTIONS))}"
                )
            if count and not (count.isdecimal() and int(count) > 0):
                raise BadRequest("fail points", f"{part!r}: the number behind @ counts from 1")
            points.on(name, action, at=int(count or 1))
        return points

    def on(self, name: str, action: Action, *, at: int = 1) -> None:
        """Call `action` at every hit of `name` from the `at`-th on; it may raise. `BadRequest`: no such name."""
        if name not in FAIL_POINTS:
            raise BadRequest("fail points", f"no step is called {name!r}; there are {', '.join(sorted(FAIL_POINTS))}")
        self._armed[name] = _Armed(action, at)

    def off(self, name: str) -> None:
        self._armed.pop(name, None)

    def hit(self, name: str) -> None:
        """Called by the code that takes the step."""
        self.hits[name] += 1
        armed = self._armed.get(name)
        if armed is not None and self.hits[name] >= armed.at:
            armed.action()


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _raise() -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


def _full() -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


_ACTIONS: dict[str, Action] = {"kill": _kill, "raise": _raise, "full": _full}
