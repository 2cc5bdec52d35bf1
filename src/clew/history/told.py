"""What a list says of a thread, as far as one file tells it."""

from __future__ import annotations

import msgspec

from clew.history.digest import Digest
from clew.history.summary import HEAD_LINES

__all__ = ["Told", "told_by"]


class Told(msgspec.Struct, frozen=True, kw_only=True, array_like=True, gc=False):
    """The facts of a list, from a digest. `recency` in milliseconds since 1970, None before the first turn.

    `previewed`: there is a preview, and it is the one that was told before, when the file was shorter.
    """

    cwd: str
    source: str | None
    provider: str | None
    model: str | None
    cli_version: str | None
    branch: str | None
    repository: str | None
    history_mode: str
    parent_id: str | None
    forked_from: str | None
    recency: int | None
    turns: int
    preview: str | None
    previewed: bool


def told_by(digest: Digest) -> Told | None:
    """None where the file alone does not tell: it inherits, or says something about itself late."""
    meta = digest.meta
    if (
        meta is None
        or meta.base is not None
        or meta.cwd is None
        or digest.unsupported is not None
        or digest.applied_cwd not in (None, meta.cwd)
        or digest.lines > HEAD_LINES
    ):
        return None
    return Told(
        cwd=meta.cwd,
        source=meta.source,
        provider=meta.provider,
        model=digest.model,
        cli_version=meta.cli_version,
        branch=meta.branch,
        repository=meta.repository,
        history_mode=meta.history_mode,
        parent_id=meta.parent_id,
        forked_from=meta.forked_from,
        recency=digest.recency,
        turns=digest.turns,
        preview=digest.preview,
        previewed=digest.said_preview == "",
    )
