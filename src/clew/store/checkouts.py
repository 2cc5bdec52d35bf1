"""Where a folder that is gone may be now: other checkouts of the repository that its threads worked in."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import msgspec

__all__ = [
    "COMMITS",
    "HEADS",
    "Candidate",
    "Checkout",
    "Git",
    "Identity",
    "ask_git",
    "checkouts",
    "find_moved",
    "neighbours",
]

COMMITS = 3
"""Commits of a folder that are looked for: each costs a process per checkout."""
HEADS = 12
"""Threads of a folder whose logs are opened to find them."""
_TIMEOUT = 5.0
_DEEPEST = 5
_PASSED_OVER = frozenset({".git", ".cache", ".venv", "__pycache__", "node_modules", "site-packages", "target"})

Git = Callable[[str, Sequence[str]], str | None]
"""Asks git in a folder: what it answers, None where it fails."""

_SCP = re.compile(r"^(?:[^@/]+@)?([^:/]+):(?!/)(.+)$")
_URL = re.compile(r"^[a-z+]+://(?:[^@/]*@)?([^/]*)/(.*)$", re.IGNORECASE)


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """What threads recorded of a folder: the repository's address and commits it was at."""

    folder: str
    repository: str | None = None
    commits: frozenset[str] = frozenset()
    threads: int = 1


class Checkout(msgspec.Struct, frozen=True, kw_only=True):
    """The top folder of a working tree that is there."""

    folder: str
    repository: str | None = None


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """`old` may be at `new` now. `why` says what tells so; `sure`: nothing else fits as well."""

    old: str
    new: str
    why: str
    sure: bool
    threads: int = 1


def ask_git(folder: str, arguments: Sequence[str]) -> str | None:
    """The answer of the installed git."""
    try:
        done = subprocess.run(
            ["git", "-c", "core.fsmonitor=false", *arguments],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TIMEOUT,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None


def checkouts(around: Iterable[str], below: Iterable[str] = (), git: Git = ask_git) -> list[Checkout]:
    """The working trees that folders lie in, and those below other folders, each once. What cannot be read is passed
    over."""
    tops: dict[str, None] = {}
    for folder in around:
        if (top := _around(folder)) is not None:
            tops[top] = None
    for folder in below:
        tops |= dict.fromkeys(_tops(Path(folder), 0))
    return [Checkout(folder=top, repository=git(top, ("remote", "get-url", "origin"))) for top in tops]


def neighbours(folder: str) -> list[str]:
    """The folders beside one that is gone: it may only have another name."""
    try:
        return sorted(str(entry) for entry in Path(folder).parent.iterdir() if (entry / ".git").exists())
    except OSError:
        return []


def find_moved(gone: Iterable[Identity], checkouts: Sequence[Checkout], git: Git = ask_git) -> Iterator[Candidate]:
    """For each folder that is gone the checkouts that fit best, if any do: of the same address, or with one of the
    commits; those with both come before others."""
    for identity in gone:
        wanted = _address(identity.repository)
        ranked: dict[int, list[Checkout]] = {}
        for checkout in checkouts:
            same = wanted is not None and wanted == _address(checkout.repository)
            if wanted is not None and checkout.repository is not None and not same:
                continue
            # A commit is looked for in the end: it costs a process each time.
            has = any(_has(git, checkout.folder, commit) for commit in sorted(identity.commits)[:COMMITS])
            if same or has:
                ranked.setdefault(2 * has + same, []).append(checkout)
        if not ranked:
            continue
        rank = max(ranked)
        why = {1: "the same repository", 2: "it has the commit", 3: "the same repository, and it has the commit"}[rank]
        for checkout in ranked[rank]:
            old, new = _aligned(identity.folder, checkout.folder)
            sure = len(ranked[rank]) == 1
            yield Candidate(old=old, new=new, why=why, sure=sure, threads=identity.threads)


def _has(git: Git, folder: str, commit: str) -> bool:
    known = re.fullmatch(r"[0-9a-f]{7,64}", commit) is not None
    return known and git(folder, ("cat-file", "-e", f"{commit}^{{commit}}")) is not None


def _aligned(old: str, top: str) -> tuple[str, str]:
    """A folder that is gone and where it would be below `top`: if its last parts are there, the folders above them."""
    parts = PurePosixPath(old).parts
    for first in range(2, len(parts)):
        if Path(top, *parts[first:]).is_dir():
            return str(PurePosixPath(*parts[:first])), top
    return old, top


def _address(url: str | None) -> str | None:
    """Host and path of a repository's address, however it is spelled; a local path as it is."""
    if not url:
        return None
    found = _URL.match(url) or _SCP.match(url)
    text = f"{found[1].lower()}/{found[2]}" if found else url
    return text.rstrip("/").removesuffix(".git")


def _around(folder: str) -> str | None:
    try:
        return next((str(top) for top in (Path(folder), *Path(folder).parents) if (top / ".git").exists()), None)
    except OSError:
        return None


def _tops(folder: Path, depth: int) -> Iterator[str]:
    try:
        entries = sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink())
        if (folder / ".git").exists():
            yield str(folder)
            return
    except OSError:
        return
    if depth < _DEEPEST:
        for entry in entries:
            if entry.name not in _PASSED_OVER:
                yield from _tops(entry, depth + 1)
