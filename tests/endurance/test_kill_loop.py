"""Random kills, a few of them: `make test-kill` does many."""

from __future__ import annotations

from pathlib import Path

import pytest
from kill_loop import KillLoop


@pytest.mark.parametrize("seed", range(3))
def test_a_few_kills_lose_and_double_nothing(tmp_path: Path, seed: int) -> None:
    report = KillLoop(tmp_path, seed).run(2)
    assert report.kills.total() == 2
