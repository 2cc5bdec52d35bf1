"""Saving threads under names, so that every program that knows threads finds them by it.

A name is on the shelf, which keeps several for one thread; in `session_index.jsonl`, where Codex looks for the one name
it knows of each; and in `saved_sessions.json`, where one fork of it looks.
"""

from __future__ import annotations

from clew.clock import Clock, utc_stamp
from clew.rollout import FailPoints, Home, NameIndex, SavedSession
from clew.rollout.saved_sessions import check_saved_sessions, forget_saved_session, put_saved_session
from clew.store.queries import ThreadSummary
from clew.store.shelf import Saved, Shelf, clean_name

__all__ = ["Naming"]


class Naming:
    """The names of a home and of a shelf together."""

    def __init__(self, home: Home, shelf: Shelf, *, clock: Clock, fail: FailPoints) -> None:
        self._home = home
        self._shelf = shelf
        self._clock = clock
        self._fail = fail
        self._titles = NameIndex(home)

    def save(self, thread: ThreadSummary, name: str) -> Saved:
        """Let a name lead to this thread, which is called so from now on; a thread that had it goes back to the name it
        was saved under before, if there is one.

        The name is never without a thread, nor does it lead to two: whatever a crash cuts off is completed by saving it
        once more. Raises `BadRequest` for what cannot be a name, `LogDamaged` for a `saved_sessions.json` that
        cannot be read, before anything was changed.
        """
        wanted = clean_name(name)
        check_saved_sessions(self._home)
        return self._shelf.save(
            thread.id,
            wanted,
            first=lambda had: self._call_otherwise(had, wanted),
            then=lambda saved: self._tell_others(thread, saved),
        )

    def _tell_others(self, thread: ThreadSummary, saved: Saved) -> None:
        if self._titles.name_of(thread.id) != saved.name:
            self._titles.rename(thread.id, saved.name, self._clock, self._fail)
        put_saved_session(
            self._home,
            SavedSession(
                name=saved.name,
                conversation_id=thread.id,
                rollout_path=thread.path,
                cwd=thread.cwd or "",
                model=thread.model or "",
                model_provider=thread.provider,
                saved_at=utc_stamp(self._clock.now()),
                created_at=thread.created_at or None,
            ),
            self._fail,
        )

    def forget(self, name: str) -> str | None:
        """Take a saved name away everywhere; gives the thread it led to, None when there was none."""
        wanted = name.strip()
        check_saved_sessions(self._home)
        return self._shelf.unsave(wanted, then=lambda had: self._forget_elsewhere(wanted, had))

    def _forget_elsewhere(self, name: str, had: str) -> None:
        self._call_otherwise(had, name)
        forget_saved_session(self._home, name, self._fail)

    def _call_otherwise(self, thread_id: str, name: str) -> None:
        """A thread that is called so gets the name it was saved under before this one, if there is one."""
        if self._titles.name_of(thread_id) == name:
            names = [other for other in self._shelf.marks_of(thread_id).names if other != name]
            self._titles.rename(thread_id, names[0] if names else None, self._clock, self._fail)
