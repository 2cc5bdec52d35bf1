"""Where the turns of large logs are, kept in the index for the next process."""

from __future__ import annotations

from clew.index.database import Database, IndexUnavailable
from clew.index.turn_places import put_turn_places, turn_places

__all__ = ["IndexedPlaces"]


class IndexedPlaces:
    """`TurnPlaces` in an index. While that cannot be used there is nothing, and nothing is kept: whoever asks reads the
    log instead, and people were told by the index itself."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, thread_id: str) -> bytes | None:
        try:
            with self._database.using() as sql:
                return turn_places(sql, thread_id)
        except IndexUnavailable:
            return None

    def put(self, thread_id: str, data: bytes) -> bool:
        try:
            with self._database.at_once() as sql, sql.writing():
                put_turn_places(sql, thread_id, data)
        except IndexUnavailable:
            return False
        return True
