"""What the surgeries share: the home they work in, and who inherits from a file."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Generator
from dataclasses import dataclass
from pathlib import Path

from clew.clock import Clock
from clew.errors import Unsupported
from clew.rollout import Base, ByteSource, Home, RolloutFile, open_source, parse_head, read_head
from clew.store.line_check import LineCheck

__all__ = ["Heir", "Room", "looked_at", "need_no_heirs"]


@dataclass(frozen=True, slots=True)
class Heir:
    """A file that inherits from another one, and what."""

    file: RolloutFile
    base: Base


@dataclass(frozen=True, slots=True)
class Room:
    """Where a surgery works."""

    home: Home
    clew_home: Path
    clock: Clock

    def heirs(self, rollout_id: str) -> list[Heir]:
        """The files that inherit from this one: forks, and later segments. Reads the beginning of every file."""
        found: list[Heir] = []
        for file in self.home.files():
            with contextlib.suppress(OSError):
                head = read_head(self.home, file)
                base = parse_head(head).history_base if head is not None else None
                if base is not None and base.thread_id == rollout_id:
                    found.append(Heir(file, base))
        return found

    @contextlib.contextmanager
    def opened(self, file: RolloutFile) -> Generator[ByteSource]:
        with contextlib.closing(open_source(self.home.fs, file)) as source:
            yield source


def looked_at(room: Room, file: RolloutFile) -> tuple[LineCheck, set[str]]:
    """A file after a look at all its lines, and the codes of what was found. Raises `Unsupported` for a compressed file
    that cannot be unpacked to its end: what is behind the damage would be lost."""
    look = LineCheck(file)
    with room.opened(file) as source:
        codes = {found.code for found in look.run(source)}
    if "frame-damaged" in codes:
        raise Unsupported(f"repair of {file.path}", "it cannot be unpacked to its end")
    return look, codes


def need_no_heirs(repair: str, file: RolloutFile, heirs: Collection[Heir], why: str) -> None:
    """Raises `Unsupported` that names those who inherit."""
    if heirs:
        names = ", ".join(sorted({heir.file.name.rollout_id for heir in heirs}))
        raise Unsupported(f"{repair} of {file.path}", f"{why}: {names}")
