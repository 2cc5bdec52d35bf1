"""`clew.open_sync`: the same for programs without async."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import clew

Words = dict[str, Any]


def test_the_usual_things_without_async(words: Words) -> None:
    with clew.open_sync(**words) as threads:
        thread = threads.start(sandbox="read-only")
        assert thread.ask("my favourite number is 41").last_message == "Noted: your favourite number is 41."
        with thread.reply("what is my favourite number?") as turn:
            kinds = [type(event) for event in turn]
        assert (kinds[0], kinds[-1]) == (clew.TurnStarted, clew.TurnEnded)
        assert turn.result is not None
        assert turn.result.last_message == "Your favourite number is 41."
        assert [view.status for view in thread.turns()] == ["completed", "completed"]
        fork = threads.fork(thread.id, name="copy")
        assert [summary.name for summary in threads.list() if summary.id == fork.id] == ["copy"]
        assert [hit.thread.id for hit in threads.search("favourite")] == [thread.id]
        assert threads.resume("copy").id == fork.id


def test_an_approver_may_block(words: Words) -> None:
    callers: list[str] = []

    def approver(request: clew.ApprovalRequest) -> clew.Decision:
        callers.append(threading.current_thread().name)
        return clew.Decision.ONCE

    with clew.open_sync(**words, sandbox="workspace-write", approver=approver) as threads:
        threads.start().ask("run with full access: touch proof")
    assert Path("proof").exists()
    assert callers != []
    assert "MainThread" not in callers


def test_errors_come_as_themselves(words: Words) -> None:
    with clew.open_sync(**words) as threads:
        with pytest.raises(clew.ThreadNotFound):
            threads.resume("nobody")
        with pytest.raises(clew.ThreadNotFound):
            list(threads.turns("nobody"))
    with pytest.raises(clew.ConfigInvalid), clew.open_sync(**words, config={"sandbox_mode": "wide"}):
        pass


def test_leaving_by_an_error_interrupts(words: Words) -> None:
    with clew.open_sync(**words, sandbox="danger-full-access") as threads:
        thread = threads.start()

        def leave() -> None:
            with thread.reply("run: sleep 60") as turn:
                for event in turn:
                    if isinstance(event, clew.ItemStarted):
                        raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            leave()
        assert [view.status for view in thread.turns()] == ["interrupted"]


def test_several_threads_of_a_program_share_one(words: Words) -> None:
    with clew.open_sync(**words) as threads, ThreadPoolExecutor(4) as pool:
        thread = threads.start()
        thread.ask("hi")

        def say(number: int) -> str | None:
            return thread.ask(f"say: {number}").last_message

        said = list(pool.map(say, range(8)))
        assert said == [str(number) for number in range(8)]
        assert len(list(thread.turns())) == 9


def test_changes_come_without_async(words: Words) -> None:
    with clew.open_sync(**words) as threads, threads.watch(interval=0.05) as changes:
        thread = threads.start()
        thread.ask("hi")
        assert next(changes) == clew.ThreadAppeared(thread.id)


def test_an_iterator_that_is_left_half_way_harms_nothing(words: Words) -> None:
    with clew.open_sync(**words) as threads:
        thread = threads.start()
        thread.ask("hi")
        half = threads.turns(thread.id)
        next(half)
    del half
