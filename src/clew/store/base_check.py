"""What forks and later segments inherit: is it there, and do the byte offset and the ordinal name the same place?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

from clew.rollout import (
    Base,
    ByteSource,
    Home,
    Record,
    RolloutFile,
    Skipped,
    open_source,
    parse_head,
    read_head,
    scan_back,
    scan_forward,
)
from clew.store.findings import Finding, finding

__all__ = ["BaseCheck", "Boundary", "boundary", "disagreement"]

BLOCK = 1 << 14
NEIGHBOURS = 50
"""Lines on either side of an offset that are looked at for an ordinal."""

Find = Callable[[str], RolloutFile | None]


class Boundary(NamedTuple):
    """What stands around a byte offset: the file's `size`, whether a line ends there, the ordinals of the nearest lines
    `before` and `behind` it (None: there are none), and how many lines `before` it could not be read."""

    size: int
    on_line: bool
    before: int | None = None
    behind: int | None = None
    unsure: int = 0


class BaseCheck:
    """The bases of one home. Chains that were found to end are remembered, so that each is followed once."""

    def __init__(self, home: Home, find: Find | None = None) -> None:
        self._home = home
        self._find = find or home.find_segment
        self._sound: set[str] = set()

    def run(self, file: RolloutFile, base: Base, line: int) -> Iterator[Finding]:
        """What is wrong with the base that the metadata in `line` of a file name."""

        def found(code: str, why: str) -> Finding:
            return finding(code, why, thread_id=file.thread_id, path=str(file.path), line=line or None)

        there = self._find(base.thread_id)
        if there is None:
            yield found("base-missing", f"it inherits from rollout {base.thread_id}, which is not there")
            return
        if self._circles(file, there):
            yield found("base-cycle", f"its history leads back to itself through rollout {base.thread_id}")
            return
        try:
            with contextlib.closing(open_source(self._home.fs, there)) as source:
                wrong = disagreement(base, boundary(source, base.end_byte_offset))
        except OSError as error:
            yield found("base-missing", f"{there.path} cannot be read: {error.strerror or error}")
            return
        if wrong is not None:
            code, why = wrong
            yield found(code, f"{why} (in rollout {base.thread_id})")

    def _circles(self, file: RolloutFile, base: RolloutFile) -> bool:
        seen = {file.name.rollout_id}
        at: RolloutFile | None = base
        while at is not None and at.name.rollout_id not in self._sound:
            if at.name.rollout_id in seen:
                return True
            seen.add(at.name.rollout_id)
            try:
                head = read_head(self._home, at)
            except OSError:
                break
            following = parse_head(head).history_base if head is not None else None
            at = self._find(following.thread_id) if following is not None else None
        self._sound |= seen
        return False


def boundary(source: ByteSource, offset: int) -> Boundary:
    """Look around an offset. Reads a few lines; of a compressed file everything before it."""
    size = source.size()
    if offset > size:
        return Boundary(size, on_line=False)
    # The next writer ends a last line that has no newline.
    on_line = offset in (0, size) or source.read_at(offset - 1, 1) == b"\n"
    if not on_line:
        return Boundary(size, on_line=False)
    before, unsure = _nearest(scan_back(source, offset, block=BLOCK))
    behind, _ = _nearest(scan_forward(source, offset, block=BLOCK))
    return Boundary(size, True, before, behind, unsure)


def disagreement(base: Base, there: Boundary) -> tuple[str, str] | None:
    """The code and the reason why a base cannot be what the file says; None if it can."""
    offset, end = base.end_byte_offset, base.end_ordinal_exclusive
    if offset > there.size:
        return "base-past-end", f"{offset} bytes are inherited, but there are only {there.size}"
    if not there.on_line:
        return "base-off-line", f"the {offset} inherited bytes end in the middle of a line"
    if there.before is None and there.behind is None:
        return "base-disagrees", f"no line around byte {offset} has an ordinal"
    if there.before is not None and there.before >= end:
        return "base-disagrees", f"ordinal {there.before} stands before byte {offset}, but only those below {end} count"
    if there.behind is not None and there.behind < end:
        return "base-disagrees", f"ordinal {there.behind} stands behind byte {offset}, but all below {end} count"
    if there.behind is None and there.before is not None and there.before + there.unsure + 1 < end:
        return "base-disagrees", f"all ordinals below {end} count, but the last one is {there.before}"
    return None


def _nearest(lines: Iterator[Record | Skipped]) -> tuple[int | None, int]:
    unsure = 0
    for _, line in zip(range(NEIGHBOURS), lines, strict=False):
        if isinstance(line, Record) and line.ordinal is not None:
            return line.ordinal, unsure
        unsure += 1
    return None, unsure
