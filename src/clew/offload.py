"""Blocking work beside an event loop; or without one, for programs that do nothing beside it.

Loading and starting an event loop takes a short command as long as what it does. Whatever awaits nothing but
`in_thread` runs without one in `run_alone`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar, TypeVarTuple

__all__ = ["in_thread", "run_alone"]

_T = TypeVar("_T")
_Arguments = TypeVarTuple("_Arguments")

_alone: ContextVar[bool] = ContextVar("clew.alone", default=False)


async def in_thread(call: Callable[[*_Arguments], _T], *arguments: *_Arguments, abandon_on_cancel: bool = False) -> _T:
    """What `call` gives, from a thread beside the event loop (see `anyio.to_thread.run_sync`); inside `run_alone` it is
    simply called."""
    if _alone.get():
        return call(*arguments)
    import anyio.to_thread

    return await anyio.to_thread.run_sync(call, *arguments, abandon_on_cancel=abandon_on_cancel)


def run_alone(work: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end what awaits nothing but `in_thread`. Raises what it raises, and `RuntimeError` where it awaits
    something else."""
    before = _alone.set(True)
    try:
        work.send(None)
    except StopIteration as done:
        return done.value
    finally:
        _alone.reset(before)
        work.close()
    raise RuntimeError("this waits for something, and needs an event loop")
