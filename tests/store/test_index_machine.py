"""Whatever happens to a home, an index of it says what its files say, and what was acknowledged stays."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from index_machine import IndexMachine
from programs import Nursery

from clew.index import reconcile


@pytest.fixture(scope="module", autouse=True)
def nursery() -> Iterator[None]:
    IndexMachine.nursery = Nursery()
    yield
    IndexMachine.nursery.close()


@pytest.mark.parametrize("whole", [reconcile.WHOLE, 0], ids=["small-home", "large-home"])
def test_an_index_says_what_the_disk_says(whole: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconcile, "WHOLE", whole)
    chosen = settings(
        max_examples=5,
        stateful_step_count=9,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    run_state_machine_as_test(IndexMachine, settings=chosen)
