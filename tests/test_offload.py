"""What blocks is done beside an event loop, or at once where there is none."""

from __future__ import annotations

import threading

import anyio
import anyio.lowlevel
import pytest

from clew.offload import in_thread, run_alone


async def _where() -> int:
    return await in_thread(threading.get_ident)


def test_beside_an_event_loop_it_is_done_in_a_thread() -> None:
    assert anyio.run(_where) != threading.get_ident()


def test_alone_it_is_done_here() -> None:
    assert run_alone(_where()) == threading.get_ident()
    # Afterwards all is as it was.
    assert anyio.run(_where) != threading.get_ident()


def test_what_the_work_raises_comes_through() -> None:
    async def fails() -> None:
        await in_thread(int, "no number")

    with pytest.raises(ValueError, match="no number"):
        run_alone(fails())


def test_what_waits_for_something_else_is_refused() -> None:
    async def waits() -> None:
        await anyio.lowlevel.checkpoint()

    with pytest.raises((RuntimeError, anyio.NoEventLoopError)):
        run_alone(waits())
