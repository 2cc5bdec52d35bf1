"""Finding and reading AGENTS.md: what people ask of every agent in a folder.

The personal file of the home comes first, then one file per folder from the project's root down to the working
directory. All project files together may be 32 KiB; what is longer is cut.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

__all__ = ["MOST_BYTES", "NAMES", "AgentsText", "read_agents_md"]

NAMES = ("AGENTS.override.md", "AGENTS.md")
"""File names, the first one that is there counts."""

MOST_BYTES = 32 * 1024

_SEPARATOR = "\n\n--- project-doc ---\n\n"


class AgentsText(msgspec.Struct, frozen=True, kw_only=True):
    """All instructions as one text, empty when there are none. `directory` is the working directory when project files
    are among them. `files` are those that were read; `notices` say what was left out and why."""

    text: str = ""
    directory: str | None = None
    files: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()


def read_agents_md(
    cwd: Path,
    home: Path | None,
    *,
    most_bytes: int = MOST_BYTES,
    fallback_names: Sequence[str] = (),
    root_markers: Sequence[str] = (".git",),
) -> AgentsText:
    """The instructions for a working directory; blocking. `home` is the folder of the personal file. `fallback_names`
    are looked for where no AGENTS.md is; `most_bytes` 0 leaves the project's files out."""
    files: list[str] = []
    notices: list[str] = []
    personal = ""
    for name in NAMES if home is not None else ():
        assert home is not None
        data = _read(home / name, None, notices)
        text = data.decode(errors="replace").strip() if data is not None else ""
        if text:
            personal = text
            files.append(str(home / name))
            break
    parts: list[str] = []
    left = most_bytes
    for folder in _folders(cwd, root_markers) if most_bytes > 0 else ():
        # The first name that is there counts, even when its file is empty: that is how a folder says nothing.
        path = next((folder / name for name in (*NAMES, *fallback_names) if (folder / name).is_file()), None)
        if path is None:
            continue
        if left <= 0:
            notices.append(f"{path} was left out: the files above it are {most_bytes} bytes long already.")
            continue
        data = _read(path, left + 1, notices)
        if data is None:
            continue
        if len(data) > left:
            notices.append(f"{path} was cut: AGENTS.md files may be {most_bytes} bytes long together.")
            data = data[:left]
        text = data.decode(errors="replace")
        if text.strip():
            parts.append(text)
            files.append(str(path))
            left -= len(data)
    project = "\n\n".join(parts)
    return AgentsText(
        text=_SEPARATOR.join(text for text in (personal, project) if text),
        directory=str(cwd) if project else None,
        files=tuple(files),
        notices=tuple(notices),
    )


def _folders(cwd: Path, markers: Sequence[str]) -> list[Path]:
    """From the project's root, the nearest folder with a marker, down to `cwd`; `cwd` alone without one."""
    above = [cwd, *cwd.parents]
    for depth, folder in enumerate(above):
        if any((folder / marker).exists() for marker in markers):
            return above[depth::-1]
    return [cwd]


def _read(path: Path, most: int | None, notices: list[str]) -> bytes | None:
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file:
            return file.read(-1 if most is None else most)
    except OSError as error:
        notices.append(f"{path} cannot be read: {error.strerror}.")
        return None
