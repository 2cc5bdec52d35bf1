"""From global options to a configuration and to open threads."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from clew.cli.notices import tell_once
from clew.cli.options import Globals
from clew.config import Config, load, parse_overrides
from clew.config.layers import Merged, read_layer
from clew.settings import Overrides, Settings

if TYPE_CHECKING:
    from clew.library import Library
    from clew.threads import Threads

__all__ = [
    "default_settings",
    "kept_rights",
    "load_config",
    "named_overrides",
    "open_home",
    "open_library",
    "temporary_home",
    "trusted",
]

_LONG_LIVED = frozenset({"clew chat", "clew exec", "clew mcp", "clew resume"})
"""Programs that bring the index up to date themselves."""
_ROOTS = "sandbox_workspace_write.writable_roots"
_INSTRUCTIONS = ("AGENTS.md", "AGENTS.override.md")


def load_config(options: Globals, *, user_files: bool = True) -> Config:
    """The configuration as these options make it. Raises `ConfigInvalid`.

    Without `user_files` no config.toml is read; the homes and the login stay what they are.
    """
    if user_files:
        return _load(options, options.codex_home, options.clew_home)
    homes = _load(Globals(), options.codex_home, options.clew_home, tolerant=True)
    with tempfile.TemporaryDirectory(prefix="clew-") as empty:
        login = homes.codex_home / "auth.json"
        if login.exists():
            Path(empty, "auth.json").symlink_to(login)
        config = _load(options, empty, empty)
    return msgspec.structs.replace(config, codex_home=homes.codex_home, clew_home=homes.clew_home)


def _load(options: Globals, codex_home: str | None, clew_home: str | None, *, tolerant: bool = False) -> Config:
    from clew.config import examine

    if tolerant:
        return examine(os.environ, codex_home=codex_home, clew_home=clew_home)[0]
    return load(
        os.environ,
        overrides=options.config,
        options=_options(options),
        profile=options.profile,
        codex_home=codex_home,
        clew_home=clew_home,
        strict=options.strict,
    )


def default_settings(config: Config, options: Globals) -> Settings:
    """What a new thread runs with. Raises `ProviderUnknown`."""
    return config.settings(options.folder())


def named_overrides(config: Config, options: Globals) -> tuple[Overrides, tuple[str, ...]]:
    """What these options name in so many words for a thread that exists, and warnings about what cannot count."""
    values = parse_overrides(options.config)
    details = [key for key in values if key.split(".")[0] == "sandbox_workspace_write"]
    mode_named = options.sandbox is not None or "sandbox_mode" in values
    warnings: list[str] = []
    if (details or options.roots) and not mode_named:
        # They would widen a sandbox nobody named; a thread's own is only replaced as a whole.
        for key in details:
            del values[key]
        shown = ", ".join([*details, *(f"--add-dir {root}" for root in options.roots)])
        warnings.append(f"{shown} left out: the thread keeps its recorded sandbox. Name one with -s to change it.")
    elif options.roots:
        values[_ROOTS] = list(config.sandbox.writable_roots)
    arguments: dict[str, Any] = {
        "config": values,
        "model": options.model,
        "sandbox": options.sandbox,
        "approval_policy": options.approval,
        "cwd": options.cd,
    }
    return config.overrides_named(arguments, cwd=Path.cwd(), with_profile=True), tuple(warnings)


def kept_rights(config: Config, options: Globals, settings: Settings) -> tuple[str, ...]:
    """Warnings about rights that a profile sets and that a thread with these settings has otherwise: it keeps its
    own until the command line itself names others."""
    given = parse_overrides(options.config)
    out: list[str] = []

    def tell(what: str, key: str, option: str, kept: str) -> None:
        out.append(
            f"the profile {config.profile} sets {key}, which is left out: the thread keeps its recorded {what} "
            f"({kept}). Name one with {option} to change it."
        )

    named = options.sandbox is not None or "sandbox_mode" in given
    if not named and config.set_by_profile("sandbox_mode") and config.sandbox != settings.sandbox:
        tell("sandbox", "sandbox_mode", "-s", settings.sandbox.mode.value)
    named = options.approval is not None or "approval_policy" in given
    if not named and config.set_by_profile("approval_policy") and config.approval_policy is not settings.approval:
        tell("approval policy", "approval_policy", "-a", settings.approval.value)
    return tuple(out)


def trusted(config: Config, folder: Path) -> bool:
    """Whether a folder lies in a git repository, or config.toml calls it or its repository trusted."""
    if _in_repository(folder):
        return True
    files = [layer for home in (config.codex_home, config.clew_home) if (layer := read_layer(home / "config.toml"))]
    merged = Merged(files)
    spellings = {str(folder), os.path.realpath(folder)}
    return any(merged.get(("projects", path, "trust_level")) == "trusted" for path in spellings)


@asynccontextmanager
async def open_library(config: Config, program: str) -> AsyncGenerator[Library]:
    """The recorded threads of the configured home, for commands that run no turn."""
    from clew import app

    async with app.open_library(
        config,
        os.environ,
        program=program,
        notify=partial(tell_once, config.clew_home),
        leave_index=partial(_leave_index, config),
    ) as library:
        yield library


@asynccontextmanager
async def open_home(
    config: Config, program: str, *, reload: Callable[[], Config] | None = None
) -> AsyncGenerator[Threads]:
    """The threads of the configured home. `program` is what others see as owner while a turn runs; `reload` reads the
    configuration anew."""
    from clew.app import open_threads
    from clew.cli import terminal

    async with open_threads(
        config,
        os.environ,
        program=program,
        reload=reload,
        notify=terminal.warn if program in _LONG_LIVED else partial(tell_once, config.clew_home),
        leave_index=None if program in _LONG_LIVED else partial(_leave_index, config),
    ) as threads:
        yield threads


def _leave_index(config: Config) -> None:
    """Let a process of its own do what is left to do for the index; nobody waits for it, and it is heard by nobody."""
    command = [sys.executable, "-m", "clew", "index", "--background"]
    homes = ["--codex-home", str(config.codex_home), "--clew-home", str(config.clew_home)]
    with suppress(OSError):
        child = subprocess.Popen(
            [*command, *homes],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )
        child.returncode = 0  # it outlives this process, which has nothing to hear from it


@contextmanager
def temporary_home(config: Config) -> Generator[Config]:
    """The same configuration over an empty home that is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix="clew-", ignore_cleanup_errors=True) as folder:
        codex_home, clew_home = Path(folder, "codex"), Path(folder, "clew")
        for home in (codex_home, clew_home):
            home.mkdir(mode=0o700)
        for name in _INSTRUCTIONS:
            if (config.codex_home / name).is_file():
                (codex_home / name).symlink_to(config.codex_home / name)
        yield msgspec.structs.replace(config, codex_home=codex_home, clew_home=clew_home)


def _options(options: Globals) -> dict[str, tuple[str, Any]]:
    """The options that stand for settings: key to the option's name and the value."""
    out: dict[str, tuple[str, Any]] = {**options.settings()}
    if options.roots:
        given = cast("list[str]", parse_overrides(options.config).get(_ROOTS) or [])
        out[_ROOTS] = ("--add-dir", [*given, *options.roots])
    return out


def _in_repository(folder: Path) -> bool:
    # The usual case without starting git: a `.git` folder or file above.
    if any((above / ".git").exists() for above in (folder, *folder.parents)):
        return True
    try:
        answer = subprocess.run(
            ["git", "rev-parse", "--git-dir"], cwd=folder, capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return answer.returncode == 0
