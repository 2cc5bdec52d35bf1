"""The way in: exit codes, messages, pipes, and what is loaded for it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from clew import errors
from clew.cli import main, registry
from clew.cli.failures import exit_code, report, root_cause
from clew.cli.options import UsageError

_HEAVY = (
    "anyio",
    "asyncio",
    "mcp",
    "msgspec",
    "httpx2",
    "pydantic",
    "sqlite3",
    "cyclopts",
    "rich",
    "clew.threads",
    "clew.config",
)


def _clew(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "clew", *words], capture_output=True, text=True, timeout=30, check=False, **options
    )


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("clew 0.")


@pytest.mark.parametrize(
    ("words", "err"),
    [
        (["lst"], "Error: there is no command 'lst'\nDid you mean list?\n"),
        (["--xx"], "Error: there is no option --xx in front of a command\n`clew --help` lists them.\n"),
        (["xyzzy"], "Error: there is no command 'xyzzy'\n`clew --help` lists the commands.\n"),
        (
            ["list", "--limt", "3"],
            "Error: Unknown option: --limt. Did you mean --limit?\n`clew list --help` explains it.\n",
        ),
        (
            ["list", "--limit", "x"],
            'Error: Invalid value for --limit: unable to convert "x" into int.\n`clew list --help` explains it.\n',
        ),
        (["-s", "none"], "Error: -s: 'none' is none of read-only, workspace-write, danger-full-access\n"),
        (
            ["show"],
            'Error: Command "show" parameter THREAD requires an argument.\n`clew show --help` explains it.\n',
        ),
    ],
)
def test_wrong_usage_ends_with_2_and_says_what_to_write(
    words: list[str], err: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    out, said = capsys.readouterr()
    assert (out, said) == ("", err)


@pytest.mark.parametrize(
    ("raised", "code", "err"),
    [
        (errors.ThreadNotFound("x"), 1, "Error: no thread is called x\n`clew list` shows the threads of this home.\n"),
        (errors.BadRequest("limit", "too large"), 2, "Error: limit: too large\n"),
        (UsageError("no", "yes"), 2, "Error: no\nyes\n"),
        (PermissionError(13, "Permission denied", "/etc/x"), 1, "Error: /etc/x: Permission denied\n"),
        (
            ExceptionGroup("", [ExceptionGroup("", [ValueError("noise"), errors.ThreadArchived("a")])]),
            1,
            "Error: thread a is archived\nUnarchive it first: `clew unarchive a`.\n",
        ),
        (
            ValueError("odd"),
            1,
            """\
Error: this should not have happened: ValueError: odd
Run it again with --debug to see where; please report it.
""",
        ),
        (KeyboardInterrupt(), 130, ""),
        (BaseExceptionGroup("", [KeyboardInterrupt()]), 130, ""),
        (SystemExit(3), 3, ""),
    ],
)
def test_failures_become_messages_and_exit_codes(
    raised: BaseException, code: int, err: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> int:
        raise raised

    monkeypatch.setattr(registry, "dispatch", fail)
    assert main(["list"]) == code
    assert capsys.readouterr() == ("", err)


def test_tracebacks_are_shown_on_request(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(*_: object) -> int:
        raise errors.DiskFull("/x")

    monkeypatch.setattr(registry, "dispatch", fail)
    assert main(["list", "--debug"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_every_error_has_an_exit_code() -> None:
    kinds = [getattr(errors, name) for name in errors.__all__]
    ours = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, errors.ClewError)]
    codes = {exit_code(kind.__new__(kind)) for kind in ours}
    assert codes == {1, 2}
    assert report(errors.ClewError("x")) == 1
    assert isinstance(root_cause(ExceptionGroup("", [OSError()])), OSError)


def test_help_loads_nothing_heavy() -> None:
    script = (
        "import sys; from clew.cli.entry import main; main(['--help']); "
        f"print([name for name in {_HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stderr.strip() == "[]"


def test_a_reader_that_went_away_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "clew", "--help"], stdout=writing, stderr=subprocess.PIPE, timeout=30, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_the_first_help_is_there_at_once() -> None:
    script = "import sys; from clew.cli.entry import main; sys.exit(main(['--help']))"
    took: list[float] = []
    for _ in range(5):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=30, check=True)
        took.append(time.monotonic() - began)
    # 150 ms is the promise; the machines that run tests are busy, and some are slow.
    assert min(took) < 0.5


def test_characters_a_terminal_lacks_are_replaced(tmp_path: Path) -> None:
    done = _clew("--help", env={**os.environ, "PYTHONIOENCODING": "ascii", "HOME": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")


def test_colours_are_off_in_pipes_and_on_when_forced() -> None:
    plain = _clew("nothing", env={key: value for key, value in os.environ.items() if key != "FORCE_COLOR"})
    forced = _clew("nothing", env={**os.environ, "FORCE_COLOR": "1", "NO_COLOR": ""})
    assert plain.stderr.startswith("Error: there is no command")
    assert forced.stderr.startswith("\x1b[31;1mError:\x1b[0m there is no command")


def test_in_the_background_interrupts_are_for_commands_alone() -> None:
    """A shell has what it starts in the background ignore them."""
    script = (
        "import os, signal, subprocess, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "from clew.cli import main\n"
        "sys.argv = ['clew', '--version']\n"
        "main()\n"
        "os.kill(os.getpid(), signal.SIGINT)\n"
        "told = 'import signal; print(signal.getsignal(signal.SIGINT) is signal.default_int_handler, flush=True)'\n"
        "subprocess.run([sys.executable, '-c', told], check=True)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout.splitlines()[-1] == "True"
