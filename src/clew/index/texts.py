"""What was said in files, as the index stores it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec

from clew.history.said import Said

__all__ = ["ROLES", "Text", "stored_turn", "texts_of", "turn_text"]

ROLES = ("title", "user", "agent", "command", "file")
"""The columns of the full-text table, in order; `docs.role` is a place in it."""

_COLUMN = {role: place for place, role in enumerate(ROLES)}


class Text(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One text of a line. `order`: the time to order it by (milliseconds since 1970; that of a line near by where its
    own has none); `offset` of its line; `column`: who said it, a place in `ROLES`."""

    order: int
    offset: int
    column: int
    at: int | None
    turn_id: str | None
    tool: str | None
    copied: bool
    text: str


def texts_of(said: Sequence[Said], when: int) -> list[Text]:
    """`when`: the time of those before the first line that has one, in milliseconds since 1970."""
    found: list[Text] = []
    for one in said:
        if one.at is not None:
            when = one.at
        found.append(Text(when, one.offset, _COLUMN[one.role], one.at, one.turn_id, one.tool, one.copied, one.text))
    return found


def turn_text(turn: bytes | str | None) -> str | None:
    """A turn's id as the log writes it."""
    return str(UUID(bytes=turn)) if isinstance(turn, bytes) else turn


def stored_turn(turn_id: str | None) -> bytes | str | None:
    """A turn's id as it is stored: a UUID's 16 bytes, or the text of another id."""
    if turn_id is None or len(turn_id) != 36 or turn_id[8] + turn_id[13] + turn_id[18] + turn_id[23] != "----":
        return turn_id
    digits = turn_id.replace("-", "")
    try:
        packed = bytes.fromhex(digits)
    except ValueError:
        return turn_id
    return packed if packed.hex() == digits and len(packed) == 16 else turn_id
