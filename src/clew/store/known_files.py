"""The files of one thread as the index proposes them, held against the disk.

Looking for them in the folders of a large home takes many times as long as what is done to the thread then. Whatever
does not hold, here or in what else the index says of the thread, is no proposal: then the folders decide.
"""

from __future__ import annotations

from clew.index.catalog import ThreadTable
from clew.index.rows import id_from_key, key_of
from clew.rollout import Home, RolloutFile, RolloutName, ThreadFiles
from clew.store.thread_rows import glimpse_of

__all__ = ["is_mentioned", "known_files"]

_ENTRIES = "SELECT f.path, e.name, e.inode FROM entries e LEFT JOIN folders f ON f.id = e.folder WHERE e.thread = ?"
_MENTIONED = (
    "SELECT 1 FROM entries WHERE thread = ?1 UNION ALL SELECT 1 FROM threads WHERE thread = ?1"
    " UNION ALL SELECT 1 FROM bases WHERE thread = ?1 LIMIT 1"
)


def known_files(table: ThreadTable, home: Home, thread_id: str) -> ThreadFiles | None:
    """The files of a thread, measured now; None where that takes a look at the folders."""
    found: list[RolloutFile] = []
    for folder, name, inode in list(table.sql.run(_ENTRIES, (key_of(thread_id),))):
        file = _there(home, str(folder), str(name), inode)
        if file is None or file.thread_id != thread_id:
            return None
        found.append(file)
    if not found:
        return None
    files = home.thread_of(thread_id, found)
    return files if _fits(table, files) else None


def is_mentioned(table: ThreadTable, thread_id: str) -> bool:
    """Whether the index knows anything of such a thread."""
    return table.sql.one(_MENTIONED, (key_of(thread_id),)) is not None


def _there(home: Home, folder: str, name: str, inode: int) -> RolloutFile | None:
    """The rollout at this place, if it is inside of the home and the file that the index means."""
    parts = folder.split("/")
    parsed = RolloutName.parse(name)
    if parsed is None or parts[0] not in ("sessions", "archived_sessions") or {"", ".", ".."} & {*parts}:
        return None
    glance = home.fs.glance((f"{home.path}/{folder}/{name}",))[0]
    if glance is None or glance[3] or glance[2] != inode:
        return None
    return RolloutFile(home.path / folder / name, parsed, parts[0] == "archived_sessions", glance[0], glance[1])


def _fits(table: ThreadTable, files: ThreadFiles) -> bool:
    """Whether all that the index says of the thread is of these files. One that it lost is named by others: by the
    thread's row, which tells the current one, or by those that inherit from it."""
    told = glimpse_of(table.content(files.thread_id))
    if told is None or (told.id, told.path, told.archived) != (
        files.thread_id,
        str(files.current.plain_path),
        files.archived,
    ):
        return False
    own = {file.name.rollout_id for file in files.segments}
    bases = table.sql.run("SELECT base FROM bases WHERE thread = ? AND direct", (key_of(files.thread_id),))
    return all(
        base in own or _is_anothers(table, base, told.forked_from) for base in [id_from_key(one) for (one,) in bases]
    )


def _is_anothers(table: ThreadTable, rollout_id: str, forked_from: str | None) -> bool:
    for thread in {rollout_id, forked_from or rollout_id}:
        for (name,) in table.sql.run("SELECT name FROM entries WHERE thread = ?", (key_of(thread),)):
            parsed = RolloutName.parse(name)
            if parsed is not None and parsed.rollout_id == rollout_id:
                return True
    return False
