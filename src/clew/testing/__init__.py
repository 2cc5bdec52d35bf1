"""For tests of programs that use clew, and of clew itself: a model without a network, a scripted endpoint, recorded
threads of every era, a disk that can fail, a store in memory, and the suite every store must pass.

Names are loaded when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clew.testing.builders import ERAS, Call, Era, ThreadBuilder
    from clew.testing.conformance import CHECKS, Check, StoreUnderTest
    from clew.testing.directives import Directives
    from clew.testing.disk import MemoryFileSystem, ProgramKilled
    from clew.testing.endpoint import Gate, Received, ScriptedEndpoint, Step, call, custom, say, think
    from clew.testing.homes import write_every_shape
    from clew.testing.memory import memory_home, memory_store
    from clew.testing.offline import OfflineModel

__all__ = [
    "CHECKS",
    "ERAS",
    "Call",
    "Check",
    "Directives",
    "Era",
    "Gate",
    "MemoryFileSystem",
    "OfflineModel",
    "ProgramKilled",
    "Received",
    "ScriptedEndpoint",
    "Step",
    "StoreUnderTest",
    "ThreadBuilder",
    "call",
    "custom",
    "memory_home",
    "memory_store",
    "say",
    "think",
    "write_every_shape",
]

_PLACES = {
    "builders": ("ERAS", "Call", "Era", "ThreadBuilder"),
    "conformance": ("CHECKS", "Check", "StoreUnderTest"),
    "directives": ("Directives",),
    "disk": ("MemoryFileSystem", "ProgramKilled"),
    "endpoint": ("Gate", "Received", "ScriptedEndpoint", "Step", "call", "custom", "say", "think"),
    "homes": ("write_every_shape",),
    "memory": ("memory_home", "memory_store"),
    "offline": ("OfflineModel",),
}
_MODULE_OF = {name: module for module, names in _PLACES.items() for name in names}


def __getattr__(name: str) -> Any:
    module = _MODULE_OF.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return list(__all__)
