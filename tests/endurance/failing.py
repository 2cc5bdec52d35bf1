"""`clew mcp` with fail points: `python failing.py before_sync=kill@2` (see `clew.rollout.failpoints`).

The shipped program has no such switch; this one is put together from the same parts.
"""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial

from clew.server.mcp import lean

lean.prepare()

import anyio  # noqa: E402 - as the program itself, which starts in half the time this way

from clew.app import open_threads  # noqa: E402 - behind what must run before it
from clew.cli.opening import load_config  # noqa: E402 - behind what must run before it
from clew.cli.options import Globals  # noqa: E402 - behind what must run before it
from clew.config import Config  # noqa: E402 - behind what must run before it
from clew.rollout import FailPoints  # noqa: E402 - behind what must run before it
from clew.server.mcp.serve import serve_stdio  # noqa: E402 - behind what must run before it
from clew.threads import Threads  # noqa: E402 - behind what must run before it


def _configuration(profile: str | None = None) -> Config:
    return load_config(Globals(profile=profile))


@asynccontextmanager
async def _threads(points: FailPoints) -> AsyncGenerator[Threads]:
    async with open_threads(_configuration(), os.environ, program="clew mcp", fail=points) as threads:
        yield threads


if __name__ == "__main__":
    points = FailPoints.parse(sys.argv[1])
    sys.exit(anyio.run(partial(serve_stdio, _configuration, partial(_threads, points))))
