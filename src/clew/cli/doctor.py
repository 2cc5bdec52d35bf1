"""`clew doctor`: what works on this machine, what does not, and what to do about it."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from clew.cli import terminal
from clew.cli.options import Globals
from clew.cli.registry import Options

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from clew.cli.checks import Check

__all__ = ["doctor", "doctor_report", "render_doctor"]


def doctor(
    *,
    online: Annotated[bool, Parameter(negative="")] = False,
    json: Annotated[bool, Parameter(negative="")] = False,
    options: Options,
) -> int:
    """Check this machine and this configuration.

    Parameters
    ----------
    online
        Also see whether the model provider's endpoint answers.
    json
        As JSON.
    """
    report = doctor_report(os.environ, options, online=online)
    if json:
        terminal.write_json(report)
    else:
        render_doctor(report, terminal.console(sys.stdout))
    return 0 if report["ok"] else 1


def doctor_report(env: Mapping[str, str], options: Globals | None = None, *, online: bool = False) -> dict[str, Any]:
    """Everything that was found out, as JSON. `checks` holds `{name, status, message, hint}` with the status `ok`,
    `warning` or `problem`; `ok` is false when there is a problem. Values of keys are never in it."""
    from clew.cli import checks, registration
    from clew.config import examine

    options = options or Globals()
    config, problems = examine(
        env,
        overrides=options.config,
        options=options.settings(),
        profile=options.profile,
        codex_home=options.codex_home,
        clew_home=options.clew_home,
        strict=options.strict,
    )
    found: list[Check] = []
    versions = checks.versions(env)
    found += checks.check_config(config, problems)
    found += checks.check_home("Codex home", config.codex_home)
    found += checks.check_home("clew home", config.clew_home)
    threads = checks.count_threads(config.codex_home, config.clew_home)
    found += checks.check_threads(threads)
    keys = checks.keys(config)
    found += checks.check_provider(config, online=online, env=env)
    sandbox, confined = checks.check_sandbox(config, env)
    found += confined
    programs = checks.programs(env)
    found += checks.check_programs(programs)
    found += checks.check_user()
    command = registration.clew_command()
    arguments = registration.home_arguments(config.codex_home, config.clew_home, _default_homes(env))
    return {
        "ok": not any(check.status == "problem" for check in found),
        "versions": versions,
        "homes": {"codex": str(config.codex_home), "clew": str(config.clew_home)},
        "threads": threads,
        "provider": config.model_provider,
        "model": config.model,
        "keys": keys,
        "sandbox": sandbox,
        "programs": programs,
        "checks": [check.to_json() for check in found],
        "registration": registration.snippets(command, ("mcp", *arguments)),
    }


def _default_homes(env: Mapping[str, str]) -> tuple[Path, Path]:
    """The homes that a server started by another program will find by itself."""
    from clew.config import examine

    bare = examine({"HOME": env.get("HOME", ""), "USERPROFILE": env.get("USERPROFILE", "")})[0]
    return bare.codex_home, bare.clew_home


_MARKS = {"ok": ("✓", "green"), "warning": ("!", "yellow"), "problem": ("✗", "red")}


def render_doctor(report: dict[str, Any], console: Console) -> None:
    """The report for people."""
    from rich.text import Text

    def line(text: Text | str = "") -> None:
        console.print(text, soft_wrap=True)

    line(", ".join(f"{name} {version}" for name, version in report["versions"].items() if version))
    line()
    checks: list[dict[str, Any]] = report["checks"]
    width = max(len(check["name"]) for check in checks)

    def entry(head: Text, message: str, style: str = "") -> None:
        """A line whose rest hangs below its beginning on a terminal; elsewhere it stays one line."""
        text = Text(terminal.clean(message), style)
        room = max(console.width - len(head), 20)
        for number, piece in enumerate(text.wrap(console, room) if console.is_terminal else [text]):
            piece.rstrip()
            line((head if number == 0 else Text(" " * len(head))) + piece)

    for check in checks:
        mark, colour = _MARKS[check["status"]]
        entry(Text.assemble((mark, colour), " ", (f"{check['name']:<{width}}", "bold"), "  "), check["message"])
        if check["hint"]:
            entry(Text(" " * (width + 4)), check["hint"], "dim")
    line()
    line(Text("To use these threads from other programs:", style="bold"))
    snippets: list[dict[str, str]] = report["registration"]
    for snippet in snippets:
        line()
        where = f" ({snippet['file']})" if snippet["file"] else ""
        line(Text(f"{snippet['client']}{where}", style="bold"))
        for row in snippet["text"].splitlines():
            line(f"  {row}")
    counts = {status: sum(check["status"] == status for check in checks) for status in _MARKS}
    line()
    if counts["problem"]:
        line(Text(f"{_counted(counts['problem'], 'problem')}, {_counted(counts['warning'], 'warning')}.", style="red"))
    elif counts["warning"]:
        line(Text(f"All works, with {_counted(counts['warning'], 'warning')}.", style="yellow"))
    else:
        line(Text("All is well.", style="green"))


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"
