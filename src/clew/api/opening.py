"""`clew.open`: from a few words to the threads of a home."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from os import PathLike
from pathlib import Path
from typing import Any

import anyio.to_thread

from clew.api.approvers import Approver, deny_all
from clew.api.threads import ApprovalWord, SandboxWord, Threads
from clew.app import open_threads, watch_threads
from clew.config import load

__all__ = ["open_"]


@asynccontextmanager
async def open_(
    *,
    codex_home: str | PathLike[str] | None = None,
    clew_home: str | PathLike[str] | None = None,
    cwd: str | PathLike[str] | None = None,
    model: str | None = None,
    provider: str | None = None,
    sandbox: SandboxWord | None = None,
    approval: ApprovalWord | None = None,
    profile: str | None = None,
    config: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    approver: Approver = deny_all,
    program: str = "python",
) -> AsyncGenerator[Threads]:
    """The threads of a home; leaving the block interrupts what still runs and waits until that is recorded.

        async with clew.open() as threads:
            thread = await threads.start()
            print((await thread.ask("What is this project about?")).last_message)

    Homes, model and rights are as the usual files say (`config.toml` of Codex and of clew) unless they are named here;
    `config` maps more keys of those files to values. They are the defaults of new threads: a resumed thread keeps its
    own. `cwd` is the folder of new threads (the process's own), `env` what commands inherit and where API keys are
    looked up (`os.environ`). `approver` answers when a command needs an approval; by default everything is refused.
    `program` names this process to others that find a thread held. Raises `ConfigInvalid`.
    """
    environment = dict(os.environ if env is None else env)
    folder = str(Path(cwd).absolute()) if cwd is not None else str(Path.cwd())
    known = await anyio.to_thread.run_sync(
        partial(load, environment, profile=profile, codex_home=_path(codex_home), clew_home=_path(clew_home))
    )
    named: dict[str, Any] = {
        "model": model,
        "model_provider": provider,
        "sandbox_mode": None if sandbox is None else str(sandbox),
        "approval_policy": None if approval is None else str(approval),
    }
    values = {**(config or {}), **{key: value for key, value in named.items() if value is not None}}
    if values:
        known = known.with_overrides(values)
    async with open_threads(known, environment, program=program) as inner:
        yield Threads(inner, known, folder, approver, partial(watch_threads, known))


def _path(given: str | PathLike[str] | None) -> Path | None:
    return None if given is None else Path(given)
