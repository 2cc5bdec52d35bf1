"""What git knows of the folder a thread works in: for the header of a new thread, and what changed there."""

from __future__ import annotations

import re
import subprocess

import anyio

__all__ = ["git_info", "working_diff"]

_TIMEOUT = 5.0
_DIFF_TIMEOUT = 30.0
_MOST_UNTRACKED = 200
# What a repository configures is not run: programs for differences and texts, watchers of files.
_UNWATCHED = ("-c", "core.fsmonitor=false")
_DIFF = (*_UNWATCHED, "diff", "--no-ext-diff", "--no-textconv", "--no-color")
_EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"
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


async def working_diff(cwd: str) -> str | None:
    """What differs in the folder `cwd` and below from the last commit, files that git does not know yet included, as a
    unified diff; None outside of a repository, or where git does not answer in time."""
    # Before the first commit there is none to compare with: everything is new.
    base = "HEAD" if await _git(cwd, ("rev-parse", "--verify", "-q", "HEAD")) else _EMPTY_TREE
    known = await _git(cwd, (*_DIFF, "--relative", base), seconds=_DIFF_TIMEOUT)
    listed = await _git(cwd, (*_UNWATCHED, "ls-files", "-z", "--others", "--exclude-standard"))
    if known is None or listed is None:
        return None
    parts = [known] if known else []
    names = [name for name in listed.split("\0") if name]
    for name in names[:_MOST_UNTRACKED]:
        found = await _git(cwd, (*_DIFF, "--no-index", "--", "/dev/null", name), differing=True)
        parts += [found] if found else []
    if len(names) > _MOST_UNTRACKED:
        parts.append(f"… and {len(names) - _MOST_UNTRACKED} more files that git does not know yet")
    return "\n".join(parts)


async def _git(
    cwd: str, arguments: tuple[str, ...], *, seconds: float = _TIMEOUT, differing: bool = False
) -> str | None:
    """What git prints; None when it fails. `differing`: an exit code of 1 is no failure."""
    try:
        with anyio.fail_after(seconds):
            done = await anyio.run_process(
                ["git", *arguments], cwd=cwd, check=False, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
    except (OSError, TimeoutError):
        return None
    good = done.returncode == 0 or (differing and done.returncode == 1)
    return done.stdout.decode(errors="replace").strip() if good else None
