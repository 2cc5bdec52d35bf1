"""Clew never loses the thread of a coding agent.

    async with clew.open() as threads:
        thread = await threads.resume("last")
        print((await thread.ask("And now?")).last_message)

    with clew.open_sync() as threads:
        print(threads.resume("last").ask("And now?").last_message)

The names below are loaded when they are first used, so that `import clew` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clew.api.approvers import Approver, approve_all, deny_all
    from clew.api.opening import open_ as open  # noqa: A004 - `clew.open` is its name
    from clew.api.sync import SyncThread, SyncThreads, SyncTurn, open_sync
    from clew.api.threads import Thread, Threads
    from clew.api.turns import Turn
    from clew.config import Config
    from clew.errors import (
        AmbiguousName,
        BadRequest,
        ClewError,
        ConfigInvalid,
        DiskFull,
        FolderGone,
        HomeUnwritable,
        KeyMissing,
        LogDamaged,
        LogReplaced,
        ModelError,
        Owner,
        ProviderUnknown,
        SyncFailed,
        ThreadArchived,
        ThreadBusy,
        ThreadInTheWay,
        ThreadNotFound,
        ThreadProtected,
        TurnFailed,
        Unsupported,
        UnsupportedHistory,
    )
    from clew.events import (
        ApprovalAsked,
        ApprovalRequest,
        Decision,
        Event,
        Item,
        ItemCompleted,
        ItemStarted,
        Notice,
        OutputDelta,
        TextDelta,
        TurnEnded,
        TurnError,
        TurnInput,
        TurnResult,
        TurnStarted,
        Usage,
        UsageUpdated,
    )
    from clew.keeping import Marks, Saved, TrashedThreads
    from clew.kinship import Branch, Comparison
    from clew.library import Reverted, TurnView
    from clew.settings import ApprovalPolicy, Sandbox, SandboxMode, Settings
    from clew.store.changes import Change, ThreadAppeared, ThreadGone, ThreadGrew, ThreadMoved, ThreadRenamed
    from clew.store.queries import ListQuery, Page, SearchHit, SearchPage, SearchQuery, ThreadSummary
    from clew.threads import ThreadStatus

__all__ = [
    "AmbiguousName",
    "ApprovalAsked",
    "ApprovalPolicy",
    "ApprovalRequest",
    "Approver",
    "BadRequest",
    "Branch",
    "Change",
    "ClewError",
    "Comparison",
    "Config",
    "ConfigInvalid",
    "Decision",
    "DiskFull",
    "Event",
    "FolderGone",
    "HomeUnwritable",
    "Item",
    "ItemCompleted",
    "ItemStarted",
    "KeyMissing",
    "ListQuery",
    "LogDamaged",
    "LogReplaced",
    "Marks",
    "ModelError",
    "Notice",
    "OutputDelta",
    "Owner",
    "Page",
    "ProviderUnknown",
    "Reverted",
    "Sandbox",
    "SandboxMode",
    "Saved",
    "SearchHit",
    "SearchPage",
    "SearchQuery",
    "Settings",
    "SyncFailed",
    "SyncThread",
    "SyncThreads",
    "SyncTurn",
    "TextDelta",
    "Thread",
    "ThreadAppeared",
    "ThreadArchived",
    "ThreadBusy",
    "ThreadGone",
    "ThreadGrew",
    "ThreadInTheWay",
    "ThreadMoved",
    "ThreadNotFound",
    "ThreadProtected",
    "ThreadRenamed",
    "ThreadStatus",
    "ThreadSummary",
    "Threads",
    "TrashedThreads",
    "Turn",
    "TurnEnded",
    "TurnError",
    "TurnFailed",
    "TurnInput",
    "TurnResult",
    "TurnStarted",
    "TurnView",
    "Unsupported",
    "UnsupportedHistory",
    "Usage",
    "UsageUpdated",
    "approve_all",
    "deny_all",
    "open",
    "open_sync",
]

_HOMES = {
    "clew.api.approvers": (
        "Approver",
        "approve_all",
        "deny_all",
    ),
    "clew.api.opening": ("open",),
    "clew.api.sync": (
        "SyncThread",
        "SyncThreads",
        "SyncTurn",
        "open_sync",
    ),
    "clew.api.threads": (
        "Thread",
        "Threads",
    ),
    "clew.api.turns": ("Turn",),
    "clew.config": ("Config",),
    "clew.errors": (
        "AmbiguousName",
        "BadRequest",
        "ClewError",
        "ConfigInvalid",
        "DiskFull",
        "FolderGone",
        "HomeUnwritable",
        "KeyMissing",
        "LogDamaged",
        "LogReplaced",
        "ModelError",
        "Owner",
        "ProviderUnknown",
        "SyncFailed",
        "ThreadArchived",
        "ThreadBusy",
        "ThreadInTheWay",
        "ThreadNotFound",
        "ThreadProtected",
        "TurnFailed",
        "Unsupported",
        "UnsupportedHistory",
    ),
    "clew.events": (
        "ApprovalAsked",
        "ApprovalRequest",
        "Decision",
        "Event",
        "Item",
        "ItemCompleted",
        "ItemStarted",
        "Notice",
        "OutputDelta",
        "TextDelta",
        "TurnEnded",
        "TurnError",
        "TurnInput",
        "TurnResult",
        "TurnStarted",
        "Usage",
        "UsageUpdated",
    ),
    "clew.keeping": (
        "Marks",
        "Saved",
        "TrashedThreads",
    ),
    "clew.kinship": (
        "Branch",
        "Comparison",
    ),
    "clew.library": (
        "Reverted",
        "TurnView",
    ),
    "clew.settings": (
        "ApprovalPolicy",
        "Sandbox",
        "SandboxMode",
        "Settings",
    ),
    "clew.store.changes": (
        "Change",
        "ThreadAppeared",
        "ThreadGone",
        "ThreadGrew",
        "ThreadMoved",
        "ThreadRenamed",
    ),
    "clew.store.queries": (
        "ListQuery",
        "Page",
        "SearchHit",
        "SearchPage",
        "SearchQuery",
        "ThreadSummary",
    ),
    "clew.threads": ("ThreadStatus",),
}
_OTHER_NAMES = {"open": "open_"}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            value = getattr(import_module(home), _OTHER_NAMES.get(name, name))
            globals()[name] = value
            return value
    raise AttributeError(f"module 'clew' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
