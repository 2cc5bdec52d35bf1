"""`clew mcp` with fail points: `python failing.py before_sync=kill@2` (see `clew.rollout.failpoints`).

The shipped program has no such switch; this one is put together from the same parts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

import anyio

from clew.app import open_threads
from clew.cli.opening import load_config
from clew.cli.options import Globals
from clew.config import Config
from clew.rollout import FailPoints
from clew.server.mcp.serve import serve_stdio
from clew.threads import Threads


def _configuration(profile: str | None = None) -> Config:
    return load_config(Globals(profile=profile))


@asynccontextmanager
async def _threads(points: FailPoints) -> AsyncGenerator[Threads]:
    async with open_threads(_configuration(), os.environ, program="clew mcp", fail=points) as threads:
        yield threads


if __name__ == "__main__":
    points = FailPoints.parse(sys.argv[1])
    sys.exit(anyio.run(partial(serve_stdio, _configuration, partial(_threads, points))))
