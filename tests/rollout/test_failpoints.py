from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from clew.errors import BadRequest
from clew.rollout import FailPoints


def test_unarmed_points_only_count() -> None:
    points = FailPoints()
    points.hit("before_sync")
    points.hit("before_sync")
    assert points.hits == {"before_sync": 2}


def test_an_action_runs_from_its_turn_on_until_it_is_taken_off() -> None:
    seen: list[int] = []
    points = FailPoints()
    points.on("after_write", lambda: seen.append(points.hits["after_write"]), at=2)
    for _ in range(3):
        points.hit("after_write")
    points.off("after_write")
    points.hit("after_write")
    assert seen == [2, 3]


def test_parsed_actions_raise() -> None:
    points = FailPoints.parse(" before_sync=raise , before_write=full@2 ")
    with pytest.raises(OSError, match="Input/output"):
        points.hit("before_sync")
    points.hit("before_write")
    with pytest.raises(OSError, match="No space"):
        points.hit("before_write")


def test_kill_ends_the_process_at_the_step() -> None:
    code = "from clew.rollout import *; FailPoints.parse('before_unlink=kill').hit('before_unlink'); print('alive')"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, env=dict(os.environ), check=False)
    assert (ended.returncode, ended.stdout) == (-signal.SIGKILL, b"")


@pytest.mark.parametrize("text", ["before_sync", "before_sync=dance", "nowhere=raise", "before_sync=raise@0", "=kill"])
def test_a_wrong_text_is_refused(text: str) -> None:
    with pytest.raises(BadRequest):
        FailPoints.parse(text)
