"""Where a command may write: the writable roots of a policy, and what inside them stays read-only."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from clew.settings import Sandbox, SandboxMode

__all__ = ["PROTECTED", "Roots", "writable_roots"]

PROTECTED = (".agents", ".aws", ".codex", ".git")


class Roots(NamedTuple):
    """Resolved folders: `writable`, and `protected` below them, whether these exist or not."""

    writable: tuple[Path, ...]
    protected: tuple[Path, ...]

    def allow(self, path: Path) -> bool:
        """Whether a resolved path may be written: the deepest entry above it decides."""
        best, allowed = -1, False
        for folders, verdict in ((self.writable, True), (self.protected, False)):
            for folder in folders:
                if len(folder.parts) > best and path.is_relative_to(folder):
                    best, allowed = len(folder.parts), verdict
        return allowed


def writable_roots(policy: Sandbox, cwd: str, environment: Mapping[str, str]) -> Roots:
    """The roots of a policy for commands that start in `cwd`: for full access the whole disk, for read-only none.

    Roots that do not exist are left out. A `.git` file that points to a folder inside a root protects that folder too.
    """
    if policy.mode is SandboxMode.FULL_ACCESS:
        return Roots((Path("/"),), ())
    if policy.mode is SandboxMode.READ_ONLY:
        return Roots((), ())
    named = [cwd, *policy.writable_roots]
    if not policy.exclude_slash_tmp:
        named.append("/tmp")  # noqa: S108 - the folder itself is meant
    if not policy.exclude_tmpdir_env_var and (folder := environment.get("TMPDIR")) and Path(folder).is_absolute():
        named.append(folder)
    roots = dict.fromkeys(path.resolve() for name in named if (path := Path(cwd, name)).exists())
    protected = dict.fromkeys(Path(os.path.realpath(root / name)) for root in roots for name in PROTECTED)
    for root in roots:
        if (folder := _git_folder(root)) is not None and any(folder.is_relative_to(other) for other in roots):
            protected[folder] = None
    return Roots(tuple(roots), tuple(path for path in protected if path not in roots))


def _git_folder(root: Path) -> Path | None:
    """Where a worktree's or submodule's `.git` file points to."""
    pointer = root / ".git"
    try:
        text = pointer.read_text("utf-8", "replace") if pointer.is_file() else ""
    except OSError:
        return None
    return Path(root, text[7:].strip()).resolve() if text.startswith("gitdir:") else None
