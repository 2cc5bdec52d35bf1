"""One story of a store; every call to the disk in it fails once, in every way; and its program dies at every call."""

from __future__ import annotations

import errno
from dataclasses import replace

import crash_strangers as strangers
import pytest
from crash_model import Broken
from crash_story import Trouble
from crash_world import World

KINDS = {
    "EIO": Trouble("fault", error=errno.EIO),
    "ENOSPC": Trouble("fault", error=errno.ENOSPC),
    "EROFS": Trouble("fault", error=errno.EROFS),
    "short write": Trouble("fault", error=errno.ENOSPC, written=150),
    "dropped pages": Trouble("fault", error=errno.EIO, written=20, dropped=True),
}
STEPS = (
    "begin",
    "append",
    "append more",
    "end",
    "take packed",
    "fork",
    "fork a copy",
    "rename",
    "compress",
    "materialise",
    "flush",
    "revert",
    "archive",
    "unarchive",
)


def _steps(*few: str) -> pytest.MarkDecorator:
    """The few always, the others with the long tests."""
    slow = pytest.mark.slow
    return pytest.mark.parametrize("step", [step if step in few else pytest.param(step, marks=slow) for step in STEPS])


def _story(step: str, trouble: Trouble) -> World:
    """Two threads come to be and grow; the trouble befalls one step of it. Then everything is held against what was
    told, the power goes, and all of it once more."""
    world = World()

    def due(name: str) -> Trouble:
        return trouble if name == step else Trouble()

    def one() -> None:
        world.begin(world.programs[0], paginated=True, count=2, durable=True, trouble=due("begin"))
        thread = next(iter(world.threads.values()), None)
        if thread is not None and thread.id in world.programs[0].held:
            world.append(world.programs[0], thread, 2, durable=False, trouble=due("append"))
        if thread is not None and thread.id in world.programs[0].held:
            world.append(world.programs[0], thread, 2, durable=True, trouble=due("append more"))
        if thread is not None and thread.id in world.programs[0].held:
            world.end(world.programs[0], thread, due("end"))
        if thread is None or thread.id not in world.threads:
            return
        world.rename(world.programs[1], thread, "alpha", due("rename"))
        world.fork(world.programs[1], thread, due("fork"))
        strangers.compress(world, thread)
        world.take(world.programs[0], thread, due("take packed"))
        if thread.id in world.programs[0].held:
            world.append(world.programs[0], thread, 1, durable=True, trouble=Trouble())
            world.end(world.programs[0], thread, Trouble())
            world.take(world.programs[0], thread, Trouble())
            world.append(world.programs[0], thread, 2, durable=False, trouble=Trouble())
        if thread.id in world.programs[0].held:
            world.append(world.programs[0], thread, 0, durable=True, trouble=due("flush"))
        if thread.id in world.programs[0].held:
            world.end(world.programs[0], thread, Trouble())
        world.pack(world.programs[1], thread, due("compress"))
        world.unpack(world.programs[1], thread, due("materialise"))
        world.revert(world.programs[1], thread, 1, due("revert"))
        world.put_away(world.programs[1], thread, due("archive"), away=True)
        world.put_away(world.programs[1], thread, due("unarchive"), away=False)

    def other() -> None:
        world.begin(world.programs[1], paginated=False, count=3, durable=True, trouble=Trouble())
        thread = list(world.threads.values())[-1]
        world.fork(world.programs[1], thread, due("fork a copy"))
        if thread.id in world.programs[1].held:
            world.end(world.programs[1], thread, Trouble())

    try:
        one()
        other()
        world.check()
        world.lose_power(trouble.at)
        for thread in list(world.threads.values()):
            if thread.archived == {False}:
                world.take(world.programs[0], thread, Trouble())
                world.append(world.programs[0], thread, 1, durable=True, trouble=Trouble())
        world.lose_power(None)
        world.inspect()
    finally:
        world.close()
    return world


@pytest.mark.parametrize("kind", KINDS)
@_steps("begin", "append more")
def test_a_call_that_fails_once_costs_nothing_that_was_acknowledged(step: str, kind: str) -> None:
    at = 0
    while True:
        at += 1
        try:
            world = _story(step, replace(KINDS[kind], at=at))
        except Broken as broken:
            raise AssertionError(f"call {at} of {step}: {broken}") from broken
        if not world.counts["faults"]:
            break
    assert at > 2, "every step makes some calls"


@pytest.mark.parametrize("kind", ["EIO", "ENOSPC"])
@_steps("append more")
def test_a_disk_that_fails_for_long_costs_nothing_that_was_acknowledged(step: str, kind: str) -> None:
    for at in range(1, 20):
        try:
            _story(step, replace(KINDS[kind], at=at, times=1000))
        except Broken as broken:
            raise AssertionError(f"call {at} of {step}: {broken}") from broken


@_steps("begin")
@pytest.mark.parametrize("written", [0, 120])
def test_a_program_that_dies_at_any_call_costs_nothing_that_was_acknowledged(step: str, written: int) -> None:
    for kind in ("kill", "power"):
        at = 0
        while True:
            at += 1
            try:
                trouble = Trouble(kind=kind, at=at, written=written, seed=at)  # pyright: ignore[reportArgumentType]
                world = _story(step, trouble)
            except Broken as broken:
                raise AssertionError(f"{kind} at call {at} of {step}: {broken}") from broken
            died = world.counts["kills"] if kind == "kill" else world.counts["crashes"] > 2
            if not died:
                break
        assert at > 2, "every step makes some calls"
