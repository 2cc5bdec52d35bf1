"""Random stories of threads, faults, kills and power losses, for `hypothesis` to shorten when one breaks a promise."""

from __future__ import annotations

import errno
from collections import Counter
from typing import Any, ClassVar

import crash_strangers as strangers
from crash_model import Expected
from crash_story import Trouble
from crash_world import World
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

__all__ = ["CrashMachine"]

ERRORS = (errno.EIO, errno.ENOSPC, errno.EROFS, errno.EDQUOT)
OPERATIONS = (
    "any",
    "sync",
    "sync",
    "open",
    "write",
    "sync",
    "sync_folder",
    "rename",
    "link",
    "unlink",
    "make_folder",
    "lock",
    "replace",
)

_steps = st.integers(1, 40)
_written = st.sampled_from((0, 1, 20, 100, 150, 400, 2000, 4096))
_seeds = st.one_of(st.none(), st.integers(0, 1 << 16))
_faults = st.builds(
    Trouble,
    kind=st.just("fault"),
    at=st.one_of(st.just(1), st.integers(1, 4), st.integers(1, 30)),
    operation=st.sampled_from(OPERATIONS),
    times=st.integers(1, 3),
    error=st.sampled_from(ERRORS),
    written=_written,
    dropped=st.booleans(),
)
_kills = st.builds(Trouble, kind=st.just("kill"), at=_steps, written=_written)
_power = st.builds(Trouble, kind=st.just("power"), at=_steps, written=_written, seed=_seeds)
troubles = st.one_of(st.just(Trouble()), st.just(Trouble()), _faults, _kills, _power)
choices = st.integers(0, 1000)
sides = st.integers(0, 1)


class CrashMachine(RuleBasedStateMachine):
    """The world does the work and keeps the promises; this chooses."""

    totals: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.world = World()

    def teardown(self) -> None:
        try:
            self.world.check()
            self.world.lose_power(None)
            self.world.inspect()
        finally:
            self.world.close()
            CrashMachine.totals["examples"] += 1
            CrashMachine.totals.update(self.world.counts)

    def _thread(self, choice: int) -> Expected:
        threads = list(self.world.threads.values())
        return threads[choice % len(threads)]

    def _held(self, side: int, choice: int) -> Expected | None:
        held = list(self.world.programs[side].held)
        return self.world.threads[held[choice % len(held)]] if held else None

    def _program(self, side: int) -> Any:
        return self.world.programs[side]

    def _any(self) -> bool:
        return bool(self.world.threads)

    @rule(side=sides, paginated=st.booleans(), count=st.integers(0, 4), durable=st.booleans(), trouble=troubles)
    def begin(self, side: int, paginated: bool, count: int, durable: bool, trouble: Trouble) -> None:
        self.world.begin(self._program(side), paginated=paginated, count=count, durable=durable, trouble=trouble)

    @precondition(_any)
    @rule(side=sides, choice=choices, trouble=troubles)
    def take(self, side: int, choice: int, trouble: Trouble) -> None:
        thread = self._thread(choice)
        if thread.id not in self._program(side).held:
            self.world.take(self._program(side), thread, trouble)

    @precondition(_any)
    @rule(side=sides, choice=choices, count=st.integers(1, 5), durable=st.booleans(), trouble=troubles)
    def append(self, side: int, choice: int, count: int, durable: bool, trouble: Trouble) -> None:
        thread = self._held(side, choice)
        if thread is None:
            thread = self._thread(choice)
            self.world.take(self._program(side), thread, Trouble())
            if thread.id not in self._program(side).held:
                return
        self.world.append(self._program(side), thread, count, durable=durable, trouble=trouble)

    @precondition(_any)
    @rule(side=sides, choice=choices, trouble=troubles)
    def flush(self, side: int, choice: int, trouble: Trouble) -> None:
        """Make what was only written durable, without anything new."""
        thread = self._held(side, choice)
        if thread is not None:
            self.world.append(self._program(side), thread, 0, durable=True, trouble=trouble)

    @precondition(_any)
    @rule(side=sides, choice=choices, trouble=troubles)
    def end(self, side: int, choice: int, trouble: Trouble) -> None:
        thread = self._held(side, choice)
        if thread is not None:
            self.world.end(self._program(side), thread, trouble)

    @precondition(_any)
    @rule(side=sides, choice=choices, trouble=troubles)
    def fork(self, side: int, choice: int, trouble: Trouble) -> None:
        self.world.fork(self._program(side), self._thread(choice), trouble)

    @precondition(_any)
    @rule(side=sides, choice=choices, where=choices, trouble=troubles)
    def revert(self, side: int, choice: int, where: int, trouble: Trouble) -> None:
        self.world.revert(self._program(side), self._thread(choice), where, trouble)

    @precondition(_any)
    @rule(side=sides, choice=choices, away=st.booleans(), trouble=troubles)
    def put_away(self, side: int, choice: int, away: bool, trouble: Trouble) -> None:
        self.world.put_away(self._program(side), self._thread(choice), trouble, away=away)

    @precondition(_any)
    @rule(side=sides, choice=choices, name=st.sampled_from(("alpha", "beta", "gamma")), trouble=troubles)
    def rename(self, side: int, choice: int, name: str, trouble: Trouble) -> None:
        self.world.rename(self._program(side), self._thread(choice), name, trouble)

    @precondition(_any)
    @rule(side=sides, choice=choices, trouble=troubles)
    def pack(self, side: int, choice: int, trouble: Trouble) -> None:
        self.world.pack(self._program(side), self._thread(choice), trouble)

    @precondition(_any)
    @rule(side=sides, choice=choices, trouble=troubles)
    def unpack(self, side: int, choice: int, trouble: Trouble) -> None:
        self.world.unpack(self._program(side), self._thread(choice), trouble)

    @precondition(_any)
    @rule(side=sides, power=st.booleans(), seed=_seeds)
    def stop(self, side: int, power: bool, seed: int | None) -> None:
        if power:
            self.world.lose_power(seed)
        else:
            self.world.counts["kills"] += 1
            self.world.replace(self._program(side))

    @precondition(_any)
    @rule(choice=choices, torn=st.booleans())
    def foreign_append(self, choice: int, torn: bool) -> None:
        strangers.append(self.world, self._thread(choice), torn=torn)

    @precondition(_any)
    @rule(choice=choices, where=choices)
    def foreign_revert(self, choice: int, where: int) -> None:
        strangers.revert(self.world, self._thread(choice), where)

    @precondition(_any)
    @rule(choice=choices)
    def foreign_compress(self, choice: int) -> None:
        strangers.compress(self.world, self._thread(choice))

    @precondition(_any)
    @rule(choice=choices, what=st.integers(0, 3), where=choices)
    def foreign_meddling(self, choice: int, what: int, where: int) -> None:
        thread = self._thread(choice)
        if what == 0:
            strangers.cut(self.world, thread, where)
        elif what == 1:
            strangers.move(self.world, thread)
        elif what == 2:
            strangers.replace(self.world, thread)
