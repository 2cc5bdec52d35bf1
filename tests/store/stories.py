"""Random stories of a home, its index and its trash: `python tests/store/stories.py --seconds 300 [--seed 7]`.

See `index_machine` and `trash_machine`. Every batch has a seed of its own. When a story breaks a promise it is told,
with the seed of its batch, which alone is told again by `--seed SEED --batches 1`.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from typing import Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from index_machine import IndexMachine
from programs import Nursery
from trash_machine import TrashMachine

from clew.index import reconcile
from clew.store import alone, journal

BATCH = 25
STEPS = 30


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--seconds", type=float, default=300)
    options.add_argument("--seed", type=int)
    options.add_argument("--batches", type=int)
    given = options.parse_args()
    first = random.randrange(1 << 31) if given.seed is None else given.seed
    began = told = time.monotonic()
    batches = 0
    # On a simulated disk, nobody who is waited for goes on.
    alone.LOCK_SECONDS = journal.LOCK_SECONDS = 0.0
    IndexMachine.nursery = Nursery()
    try:
        while time.monotonic() - began < given.seconds and (given.batches is None or batches < given.batches):
            number = first + batches
            try:
                _tell(number)
            except BaseException:
                sys.stderr.write(f"\nbroken: python tests/store/stories.py --seed {number} --batches 1\n")
                raise
            batches += 1
            if time.monotonic() - told > 30:
                told = time.monotonic()
                _say(f"{told - began:.0f} s: {_figures()}")
    finally:
        IndexMachine.nursery.close()
    _say(f"seeds {first} to {first + batches - 1}, {(time.monotonic() - began) / 60:.1f} minutes: {_figures()}")
    _say("answers that differ from the disk: 0, acknowledged changes lost: 0")
    return 0


WHOLE = reconcile.WHOLE


def _tell(number: int) -> None:
    # Homes of every size are looked at in both ways.
    reconcile.WHOLE = WHOLE if number % 3 else 0
    machine, stories = (TrashMachine, 4 * BATCH) if number % 3 == 2 else (IndexMachine, BATCH)
    profile = settings(
        max_examples=stories,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=(Phase.generate,),  # shortening a story takes longer than reading it
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large),
    )
    told: Any = type("Machine", (machine,), {})
    run_state_machine_as_test(seed(number)(told), settings=profile)


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _figures() -> str:
    return "; ".join(
        f"{name}: " + ", ".join(f"{count} {what}" for what, count in sorted(totals.items()))
        for name, totals in (("index", IndexMachine.totals), ("trash", TrashMachine.totals))
    )


if __name__ == "__main__":
    sys.exit(main())
