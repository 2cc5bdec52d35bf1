"""What a new thread's header says about the git repository it works in."""

from __future__ import annotations

import re
import subprocess

import anyio

__all__ = ["git_info"]

_TIMEOUT = 5.0
_QUESTIONS = {
    "commit_hash": ("rev-parse", "HEAD"),
    "branch": ("rev-parse", "--abbrev-ref", "HEAD"),
    "repository_url": ("remote", "get-url", "origin"),
}
_LOGIN = re.compile(r"^([a-z][a-z0-9+.-]*://)[^/@]*@", re.IGNORECASE)


async def git_info(cwd: str) -> dict[str, str]:
    """`commit_hash`, `branch` and `repository_url` of the repository around `cwd`, each where git tells it within
    five seconds; empty outside of a repository. A detached head has no branch; logins in addresses are left out."""
    found: dict[str, str] = {}

    async def ask(key: str, arguments: tuple[str, ...]) -> None:
        answer = await _git(cwd, arguments)
        if answer and not (key == "branch" and answer == "HEAD"):
            # `git@host:path` names no person; what stands before the host of an address may be a password.
            found[key] = _LOGIN.sub(r"\1", answer)

    async with anyio.create_task_group() as tasks:
        for key, arguments in _QUESTIONS.items():
            tasks.start_soon(ask, key, arguments)
    return {key: found[key] for key in _QUESTIONS if key in found}


async def _git(cwd: str, arguments: tuple[str, ...]) -> str | None:
    try:
        with anyio.fail_after(_TIMEOUT):
            done = await anyio.run_process(
                ["git", *arguments], cwd=cwd, check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
    except (OSError, TimeoutError):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None
