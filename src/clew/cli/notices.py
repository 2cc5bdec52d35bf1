"""What a person is told once a day, however many commands would say it.

`$CLEW_HOME/notices.json` holds the digests of what was said, with the day: `{"3f0c…": "2026-07-01"}`.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import suppress
from pathlib import Path

__all__ = ["tell_once"]

FILE = "notices.json"


def tell_once(clew_home: Path, text: str) -> None:
    """Warn of something that lasts, unless that was done today. Where it cannot be noted, it is told again."""
    from clew.cli import terminal

    today = time.strftime("%Y-%m-%d", time.gmtime())
    said = _said(clew_home)
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    if said.get(digest) == today:
        return
    terminal.warn(text)
    _note(clew_home, {**{one: day for one, day in said.items() if day == today}, digest: today})


def _said(clew_home: Path) -> dict[str, str]:
    import msgspec

    try:
        return msgspec.json.decode((clew_home / FILE).read_bytes(), type=dict[str, str])
    except (OSError, msgspec.DecodeError):
        return {}


def _note(clew_home: Path, said: dict[str, str]) -> None:
    import msgspec

    new = clew_home / f"{FILE}.{os.getpid()}.tmp"
    with suppress(OSError):
        try:
            file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(file, "wb") as out:
                out.write(msgspec.json.encode(said))
            new.replace(clew_home / FILE)
        finally:
            new.unlink(missing_ok=True)
