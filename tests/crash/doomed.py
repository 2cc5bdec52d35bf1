"""One operation on a store in files, killed at a fail point: `python doomed.py HOME WHAT POINTS`.

Every line on stdout is an acknowledgement. `WHAT`: see `main`.
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path

import anyio

from clew.clock import SystemClock
from clew.errors import Owner
from clew.ids import SystemIds
from clew.rollout import FailPoints, Home, RealFileSystem
from clew.store import LocalStore
from clew.store.cold import ColdRules, ColdWorker
from clew.testing.store_bench import meta, said

TURN = "the second"
OLD, NEW = "019f1d8c-e200-7000-8000-000000000001", "019f1d8c-e200-7000-8000-000000000002"


def opened(home: Path, points: str = "") -> LocalStore:
    clock = SystemClock()
    return LocalStore(
        RealFileSystem(),
        home / "codex",
        home / "clew",
        clock=clock,
        ids=SystemIds(clock),
        owner=Owner("doomed"),
        fail=FailPoints.parse(points),
    )


def told(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def main(home: Path, what: str, points: str) -> None:
    with closing(opened(home, points)) as store:
        match what:
            case "create" | "append":
                thread_id = NEW if what == "create" else OLD
                async with store.lease(thread_id, Owner("doomed"), create=True) as lease:
                    if not lease.existed:
                        await lease.append([meta(thread_id)])
                        told("made")
                    for number in range(3):
                        await lease.append([said(f"{what} {number}"), said(f"{what} {number} more")])
                        told(f"{what} {number}")
            case "fork":
                await store.fork(OLD, NEW)
                told("forked")
            case "revert":
                await store.revert(OLD, TURN, Owner("doomed"))
                told("reverted")
            case "compress" | "materialise":
                worker = ColdWorker(
                    Home(RealFileSystem(), home / "codex"),
                    home / "clew",
                    owner=Owner("doomed"),
                    clock=SystemClock(),
                    fail=FailPoints.parse(points),
                )
                if what == "compress":
                    await worker.compress(ColdRules(older_than=0), only=[OLD])
                else:
                    await worker.materialise([OLD])
                told(f"{what}d")
            case "archive":
                store.catalog.archive(OLD)
                told("archived")
            case "rename":
                store.catalog.rename(OLD, "alpha")
                told("renamed")
            case _:
                raise SystemExit(f"nothing is called {what}")


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), sys.argv[2], sys.argv[3])
