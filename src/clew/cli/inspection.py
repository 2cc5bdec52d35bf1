"""`clew inspect` as the parser sees it."""

from __future__ import annotations

import os
import sys
from typing import Annotated

from cyclopts import Parameter

from clew.cli.options import UsageError
from clew.cli.registry import Options

__all__ = ["inspect"]


def inspect(
    thread: str | None = None,
    /,
    *,
    all_: Annotated[bool, Parameter(name="--all", negative="")] = False,
    jsonl: Annotated[bool, Parameter(name=("--jsonl", "--json"), negative="")] = False,
    options: Options,
) -> int:
    """Print all that is known about threads.

    Parameters
    ----------
    thread
        The id of one thread.
    all_
        All threads of the home.
    jsonl
        One JSON object per line; that is how it is printed in any case.
    """
    if (thread is None) is not all_:
        raise UsageError("an id or --all is needed", "For example: clew inspect --all --jsonl")
    from clew.cli.inspect import inspect_home
    from clew.config import examine

    # A wrong configuration must not keep anybody from reading the files.
    config, _ = examine(os.environ, codex_home=options.codex_home, clew_home=options.clew_home)
    return inspect_home(config.codex_home, thread, sys.stdout)
