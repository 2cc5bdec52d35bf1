"""Random stories of a home and its index for a while: `python tests/store/index_stories.py --seconds 300 [--seed 7]`.

See `index_machine`. Every batch has a seed of its own. When a story breaks a promise it is told, with the seed of its
batch, which alone is told again by `--seed SEED --batches 1`.
"""

from __future__ import annotations

import argparse
import random
import sys
import time

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from index_machine import IndexMachine
from programs import Nursery

from clew.index import reconcile

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
    IndexMachine.nursery = Nursery()
    try:
        while time.monotonic() - began < given.seconds and (given.batches is None or batches < given.batches):
            number = first + batches
            # Homes of every size are looked at in both ways.
            reconcile.WHOLE = WHOLE if number % 2 else 0
            try:
                _tell(number)
            except BaseException:
                sys.stderr.write(f"\nbroken: python tests/store/index_stories.py --seed {number} --batches 1\n")
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
    class Machine(IndexMachine):
        pass

    profile = settings(
        max_examples=BATCH,
        stateful_step_count=STEPS,
        deadline=None,
        database=None,
        phases=(Phase.generate,),  # shortening a story takes longer than reading it
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large),
    )
    run_state_machine_as_test(seed(number)(Machine), settings=profile)  # pyright: ignore[reportUnknownMemberType]


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def _figures() -> str:
    return ", ".join(f"{count} {what}" for what, count in sorted(IndexMachine.totals.items()))


if __name__ == "__main__":
    sys.exit(main())
