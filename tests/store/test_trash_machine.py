"""Whatever happens to two programs that move threads, each thread is in one place, and none is lost."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from trash_machine import TrashMachine

from clew.store import alone, journal


def test_each_thread_is_in_one_place(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (alone, journal):
        monkeypatch.setattr(module, "LOCK_SECONDS", 0.0)
    chosen = settings(
        max_examples=25,
        stateful_step_count=15,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    run_state_machine_as_test(TrashMachine, settings=chosen)
