"""A few random stories; `make test-crash` tells many."""

from __future__ import annotations

from crash_machine import CrashMachine
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test


def test_nothing_acknowledged_is_lost_or_doubled_whatever_happens() -> None:
    small = settings(
        max_examples=15,
        stateful_step_count=25,
        deadline=None,
        derandomize=True,
        suppress_health_check=(HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large),
    )
    run_state_machine_as_test(CrashMachine, settings=small)  # pyright: ignore[reportUnknownMemberType]
