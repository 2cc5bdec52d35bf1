"""Clew never loses the thread of a coding agent.

    async with clew.open_threads(clew.load(os.environ), os.environ) as threads:
        thread = await threads.open("last", defaults)
        turn = thread.run(clew.TurnInput(text="And now?"), approver=approver)
        print((await turn.wait()).last_message)

The names below are loaded when they are first used, so that `import clew` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clew.app import open_threads
    from clew.config import Config, load
    from clew.engine import Approver
    from clew.errors import ClewError
    from clew.events import ApprovalRequest, Decision, Event, Item, TurnInput, TurnResult
    from clew.settings import ApprovalPolicy, Overrides, Sandbox, SandboxMode, Settings
    from clew.threads import Thread, Threads, Turn

__all__ = [
    "ApprovalPolicy",
    "ApprovalRequest",
    "Approver",
    "ClewError",
    "Config",
    "Decision",
    "Event",
    "Item",
    "Overrides",
    "Sandbox",
    "SandboxMode",
    "Settings",
    "Thread",
    "Threads",
    "Turn",
    "TurnInput",
    "TurnResult",
    "load",
    "open_threads",
]

_HOMES = {
    "clew.app": ("open_threads",),
    "clew.config": ("Config", "load"),
    "clew.engine": ("Approver",),
    "clew.errors": ("ClewError",),
    "clew.events": ("ApprovalRequest", "Decision", "Event", "Item", "TurnInput", "TurnResult"),
    "clew.settings": ("ApprovalPolicy", "Overrides", "Sandbox", "SandboxMode", "Settings"),
    "clew.threads": ("Thread", "Threads", "Turn"),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(home), name)
    raise AttributeError(f"module 'clew' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
