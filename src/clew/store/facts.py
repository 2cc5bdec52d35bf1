"""What is known of files, each from its own lines: kept digests where they still hold, reading where there is none."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import msgspec

from clew.history.digest import Digest, digest_lines
from clew.index.files import KnownFile
from clew.rollout import Home, RolloutFile, open_source
from clew.store.queries import SearchProgress, ShowProgress, Stop

__all__ = ["FileFacts", "Known", "facts_of", "from_index", "read_facts"]

_BLOCK = 1 << 20
_LONGEST = 1 << 28
"""Bytes of the longest line that is looked at; what stands behind a longer one is not."""


class FileFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One file and the digest of its lines. `problem` tells why it could not be read to its end; the digest holds as
    far as it was."""

    file: RolloutFile
    digest: Digest
    problem: str | None = None


Known = Callable[[RolloutFile], Digest | None]
"""The digest of a file that was made before, if it covers all that the file holds now."""


def from_index(home: Home, row: Callable[[str], KnownFile | None]) -> Known:
    """What the index keeps, where it covers a file as it lies there now. `row` gives the index's row of a path, which
    is relative to the home and without `.zst`."""

    def known(file: RolloutFile) -> Digest | None:
        found = row(file.plain_path.relative_to(home.path).as_posix())
        if found is None or found.thread != file.thread_id:
            return None
        if not found.unchanged(size=file.size, mtime_ns=file.mtime_ns, packed=file.compressed):
            return None
        if not file.compressed and found.offset != file.size:
            return None  # a part was not taken yet, or its last line has no end
        return found.digest()

    return known


def facts_of(
    home: Home,
    files: Sequence[RolloutFile],
    *,
    known: Known | None = None,
    stop: Stop | None = None,
    progress: ShowProgress | None = None,
) -> Iterator[FileFacts]:
    """Of many files, in their order; what nobody knows yet is read. Ends early when `stop` tells so."""
    whole = sum(file.size for file in files)
    done = 0
    for number, file in enumerate(files, 1):
        if stop is not None and stop():
            return
        digest = known(file) if known is not None else None
        yield read_facts(home, file) if digest is None else FileFacts(file=file, digest=digest)
        done += file.size
        if progress is not None:
            progress(SearchProgress(number, len(files), done, whole))


def read_facts(home: Home, file: RolloutFile) -> FileFacts:
    """Reads the file from its beginning to its end; a last line without newline counts, too. Never raises for what the
    file is or holds."""
    digest = Digest(thread_id=file.thread_id)
    problem: str | None = None
    try:
        source = open_source(home.fs, file)
        try:
            rest = b""
            position = 0
            while block := source.read_at(position, _BLOCK):
                position += len(block)
                data = rest + block
                rest = data[digest_lines(digest, data) :]
                if len(rest) > _LONGEST:
                    return FileFacts(file=file, digest=digest, problem=f"a line of more than {_LONGEST >> 20} MB")
            if rest:
                digest_lines(digest, rest + b"\n")
            problem = source.damage
        finally:
            source.close()
    except OSError as error:
        problem = error.strerror or str(error)
    return FileFacts(file=file, digest=digest, problem=problem)
