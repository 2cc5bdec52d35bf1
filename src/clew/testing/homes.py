"""Whole homes for tests: every era and shape of rollout side by side."""

from __future__ import annotations

from clew.rollout.layout import Home
from clew.testing.builders import BEGINNING, ERAS, Call, Era, ThreadBuilder

__all__ = ["write_every_shape"]


def write_every_shape(home: Home) -> dict[str, ThreadBuilder]:
    """One thread of every era and of every shape that files are found in, written into one home, by name."""
    made: dict[str, ThreadBuilder] = {}

    def add(name: str, thread: ThreadBuilder, *, archived: bool = False, compressed: bool = False) -> None:
        thread.write(home, archived=archived, compressed=compressed)
        made[name] = thread

    def fresh(era: Era) -> ThreadBuilder:
        number = len(made)
        return ThreadBuilder(era, start=BEGINNING + number * 3600, seed=number)

    for era in ERAS:
        add(f"simple {era}", fresh(era).turn("First?", "One.").turn("Second?", "Two.", calls=[Call("ls", "a.txt\n")]))
    for era in ERAS[3:]:
        add(f"compacted {era}", fresh(era).turn("First?", "One.").compact("A summary.").turn("Second?", "Two."))
    for era in ERAS[4:]:
        add(f"rolled back {era}", fresh(era).turn("First?", "One.").turn("Second?", "Two.").rollback(1))
    add("copying fork", fresh("0.142").turn("First?", "One.").fork().turn("Second?", "Two."))
    parent = fresh("0.169").turn("First?", "One.").turn("Second?", "Two.")
    add("forked", parent)
    add("referencing fork", parent.fork(before=1).turn("Other second?", "Other two."))
    reverted = (
        fresh("0.169").turn("First?", "One.").turn("Second?", "Two.").revert(1).turn("Better second?", "Better two.")
    )
    add("reverted", reverted)
    add("archived", fresh("0.169").turn("First?", "One."), archived=True)
    add("compressed", fresh("0.142").turn("First?", "One."), compressed=True)
    add("killed", fresh("0.169").turn("First?", "One.").kill_during_call("Second?"))
    add("torn", fresh("0.169").turn("First?", "One.").turn("Second?", "Two.").torn())
    add("failed", fresh("0.169").turn("First?", None, status="failed"))
    add("interrupted", fresh("0.142").turn("First?", None, calls=[Call("ls", "aborted by user")], status="interrupted"))
    return made
