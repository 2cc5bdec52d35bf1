"""Whatever a file holds: a repair helps or refuses, loses no line, and undone it was never there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from repair_cases import CASES, thread

from clew.clock import SystemClock
from clew.errors import ClewError, Owner
from clew.rollout import Home
from clew.store.checking import Checker
from clew.store.repair import REPAIRS, Repairs
from clew.testing import MemoryFileSystem, ThreadBuilder, memory_home

CLEW = Path("/clew")


def _repairs(home: Home) -> Repairs:
    return Repairs(home.fs, home.path, CLEW, clock=SystemClock(), owner=Owner("test"))


def _rollouts(fs: MemoryFileSystem, home: Home) -> dict[str, bytes]:
    return {str(file.path): fs.read_bytes(file.path) for file in home.files()}


def _built(choice: str) -> ThreadBuilder:
    if choice == "fork":
        return thread().fork(before=1).turn("Other?", "Else.")
    return thread(choice)


@settings(max_examples=250, deadline=None)
@given(st.data())
def test_a_repair_of_anything_helps_or_refuses_and_is_undone(data: st.DataObject) -> None:
    fs = MemoryFileSystem()
    home = memory_home(fs)
    case = CASES[data.draw(st.sampled_from(sorted(CASES)))](home, CLEW)
    for path in _rollouts(fs, home) if data.draw(st.booleans(), "more damage") else ():
        whole = bytearray(fs.read_bytes(Path(path)))
        place = data.draw(st.integers(0, len(whole)))
        whole[place : place + data.draw(st.integers(0, 60))] = data.draw(st.binary(max_size=8))
        fs.write_bytes(Path(path), bytes(whole))
    before = _rollouts(fs, home)
    surgeon = _repairs(home)
    try:
        done = surgeon.apply(case.repair, case.thread_id)
    except ClewError:
        assert _rollouts(fs, home) == before
        return
    if done.stamp is None:
        assert _rollouts(fs, home) == before
        return
    assert surgeon.plan(case.repair, case.thread_id).steps == ()
    assert {each.code for each in done.left} & REPAIRS[case.repair].codes == set()
    surgeon.undo(done.stamp)
    assert _rollouts(fs, home) == before


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_numbering_leaves_every_record_as_it_was(data: st.DataObject) -> None:
    fs = MemoryFileSystem()
    home = memory_home(fs)
    choice = data.draw(st.sampled_from(["0.142", "0.169", "fork"]))
    builder = _built(choice)
    if choice == "fork":
        thread().write(home)
    lines: list[dict[str, Any]] = [json.loads(line) for line in builder.data.splitlines()]
    first = lines[0].get("ordinal", 0)
    for line in lines:
        match data.draw(st.integers(0, 5)):
            case 0:
                line.pop("ordinal", None)
            case 1:
                line["ordinal"] = data.draw(st.integers(0, 2**40))
            case _:
                pass
    damaged = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
    path = builder.edit(lambda _: damaged).write(home)
    _repairs(home).apply("renumber", builder.id)
    found = Checker(home, CLEW, clock=SystemClock()).some([builder.id])
    assert [each for each in found if each.repair == "renumber"] == []
    after: list[dict[str, Any]] = [json.loads(line) for line in fs.read_bytes(path).splitlines()]
    expected = list(range(first, first + len(lines))) if builder.paginated else [None] * len(lines)
    assert [line.get("ordinal") for line in after] == expected
    for line in (*lines, *after):
        line.pop("ordinal", None)
    assert after == lines
