"""A few seconds of fuzzing in every run of the suite, and what longer runs have found."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reader_mutations import built_cases, mutated
from reader_target import Case, check

from clew.rollout import Home, Record, read_thread, read_thread_back
from clew.testing.builders import BEGINNING, ThreadBuilder
from clew.testing.disk import MemoryFileSystem

CASES = built_cases()


@pytest.mark.parametrize("number", range(len(CASES)))
def test_an_undamaged_home_holds(number: int, tmp_path: Path) -> None:
    check(CASES[number], tmp_path)
    assert Case.decode(CASES[number].encode()) == CASES[number]


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(range(len(CASES))), st.integers(0, 2**32))
def test_a_damaged_home_holds(number: int, seed: int) -> None:
    rng = random.Random(seed)
    case = mutated(CASES[number], rng, CASES)
    check(Case(case.files), Path("/nowhere"))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_hold(data: bytes) -> None:
    check(Case(Case.decode(data).files), Path("/nowhere"))


def test_what_is_missing_of_a_base_is_told_at_the_same_place_both_ways() -> None:
    home = Home(MemoryFileSystem(), Path("/home/codex"))
    source = ThreadBuilder(start=BEGINNING).turn("First?", "One.")
    child = source.fork().turn("Second?", "Two.")
    source.torn(200)
    for thread in (source, child):
        thread.write(home)
    files = home.find(child.id)
    assert files is not None
    forward, backward = list(read_thread(home, files)), list(read_thread_back(home, files))
    told = [line.why.partition(" has ")[2] if not isinstance(line, Record) else line.start for line in forward]
    told_back = [line.why.partition(" has ")[2] if not isinstance(line, Record) else line.start for line in backward]
    assert told == told_back[::-1]
    assert any(isinstance(each, str) and "are inherited" in each for each in told)
