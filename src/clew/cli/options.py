"""The options every command understands, before or after its name: homes, configuration, model, rights, folder.

They are taken out of the arguments before the command's own are parsed, so that `clew -m X exec …` and
`clew exec … -m X` are the same. Everything behind `--` is left alone. This module is imported by every start and
uses the standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from os.path import normpath
from pathlib import Path

__all__ = ["APPROVALS", "GLOBAL_HELP", "SANDBOXES", "Globals", "UsageError", "did_you_mean", "take_globals"]

SANDBOXES = ("read-only", "workspace-write", "danger-full-access")
APPROVALS = ("untrusted", "on-request", "never")

GLOBAL_HELP = """\
Options of every command, before or after its name:
  -C, --cd DIR                 work in this folder
  -m, --model MODEL            the model to ask
  -s, --sandbox MODE           read-only | workspace-write | danger-full-access
  -a, --ask-for-approval WHEN  untrusted | on-request | never
  -c, --config KEY=VALUE       a setting of config.toml, as TOML (repeat it)
  -p, --profile NAME           a profile of config.toml
      --enable, --disable F    switch a feature: -c features.F=true|false
      --strict-config          unknown keys in config.toml are errors
      --codex-home DIR         where threads are kept (CODEX_HOME, ~/.codex)
      --clew-home DIR          clew's own notes (CLEW_HOME, ~/.clew)
      --debug                  show tracebacks
  -h, --help                   this text; `clew COMMAND --help` for one command
  -V, --version                the version"""


class UsageError(Exception):
    """The command line is wrong; `hint` says what to write instead."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@dataclass(frozen=True, slots=True)
class Globals:
    """The global options as given; None and empty mean: not mentioned.

    `config` holds the `KEY=VALUE` texts of `-c`, `--enable` and `--disable` in the order given.
    """

    codex_home: str | None = None
    clew_home: str | None = None
    config: tuple[str, ...] = ()
    profile: str | None = None
    model: str | None = None
    sandbox: str | None = None
    approval: str | None = None
    cd: str | None = None
    roots: tuple[str, ...] = ()
    """Further folders that commands may write to (`--add-dir` of `clew exec`)."""
    strict: bool = False
    debug: bool = False
    literal: tuple[str, ...] = field(default=(), repr=False)
    """The arguments behind `--`, so that a command can tell a word from a sub-command."""

    def folder(self) -> Path:
        """The working folder, absolute, links kept as the user wrote them."""
        return Path(Path.cwd(), self.cd or ".").absolute()

    def settings(self) -> dict[str, tuple[str, str]]:
        """The options that stand for keys of config.toml: key to the option's name and its value."""
        named = {
            "model": ("--model", self.model),
            "sandbox_mode": ("--sandbox", self.sandbox),
            "approval_policy": ("--ask-for-approval", self.approval),
        }
        return {key: (option, value) for key, (option, value) in named.items() if value is not None}

    def with_roots(self, folders: Sequence[str]) -> Globals:
        """The same with these folders, relative to the working folder, as `roots`."""
        base = self.folder()
        return replace(self, roots=tuple(normpath(base / folder) for folder in folders)) if folders else self

    def with_config(self, *assignments: str) -> Globals:
        """The same with more `KEY=VALUE` settings behind the given ones."""
        return replace(self, config=(*self.config, *assignments))


_VALUES = {
    "--codex-home": "codex_home",
    "--clew-home": "clew_home",
    "--config": "config",
    "-c": "config",
    "--profile": "profile",
    "-p": "profile",
    "--model": "model",
    "-m": "model",
    "--sandbox": "sandbox",
    "-s": "sandbox",
    "--ask-for-approval": "approval",
    "-a": "approval",
    "--cd": "cd",
    "-C": "cd",
    "--enable": "enable",
    "--disable": "disable",
}
_CHOICES = {"sandbox": SANDBOXES, "approval": APPROVALS}


def take_globals(argv: Sequence[str]) -> tuple[Globals, list[str]]:
    """The global options of a command line and the arguments that are left. Raises `UsageError`."""
    found: dict[str, str] = {}
    switches: set[str] = set()
    config: list[str] = []
    rest: list[str] = []
    literal: tuple[str, ...] = ()
    at = 0
    while at < len(argv):
        word = argv[at]
        at += 1
        if word == "--":
            literal = tuple(argv[at:])
            rest.extend(argv[at - 1 :])
            break
        if word in ("--debug", "--strict-config"):
            switches.add(word)
            continue
        option, value = _split(word)
        if option is None:
            rest.append(word)
            continue
        if value is None:
            if at >= len(argv) or argv[at] == "--":
                raise UsageError(f"{option} needs a value")
            value = argv[at]
            at += 1
        name = _VALUES[option]
        if name in _CHOICES and value not in _CHOICES[name]:
            raise UsageError(
                f"{option}: {value!r} is none of {', '.join(_CHOICES[name])}", did_you_mean(value, _CHOICES[name])
            )
        if name == "config":
            if "=" not in value:
                raise UsageError(f"{option}: {value!r} is not KEY=VALUE", "For example: -c model_reasoning_effort=high")
            config.append(value)
        elif name in ("enable", "disable"):
            config.append(f"features.{value}={'true' if name == 'enable' else 'false'}")
        else:
            found[name] = value
    return Globals(
        codex_home=found.get("codex_home"),
        clew_home=found.get("clew_home"),
        config=tuple(config),
        profile=found.get("profile"),
        model=found.get("model"),
        sandbox=found.get("sandbox"),
        approval=found.get("approval"),
        cd=found.get("cd"),
        strict="--strict-config" in switches,
        debug="--debug" in switches,
        literal=literal,
    ), rest


def did_you_mean(word: str, known: Sequence[str]) -> str:
    """`Did you mean X?` for the nearest of the known words, or nothing."""
    from difflib import get_close_matches

    near = get_close_matches(word, known, n=1)
    return f"Did you mean {near[0]}?" if near else ""


def _split(word: str) -> tuple[str | None, str | None]:
    """The global option a word is, with the value attached to it (`--model=x`, `-mx`, `-m=x`)."""
    if word in _VALUES:
        return word, None
    if word.startswith("--"):
        option, equals, value = word.partition("=")
        return (option, value) if equals and option in _VALUES else (None, None)
    if len(word) > 2 and word[:2] in _VALUES:
        return word[:2], word[2:].removeprefix("=")
    return None, None
