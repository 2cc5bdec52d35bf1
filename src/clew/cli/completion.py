"""`clew completion`: scripts for shells."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

from cyclopts import Parameter

from clew.cli.registry import application

__all__ = ["completion"]

_ACTIONS = Literal["resume", "fork"]
_GLOBAL: dict[str, tuple[tuple[str, ...], Any, str]] = {
    "cd": (("--cd", "-C"), Path, "work in this folder"),
    "model": (("--model", "-m"), str, "the model to ask"),
    "sandbox": (
        ("--sandbox", "-s"),
        Literal["read-only", "workspace-write", "danger-full-access"],
        "what may be touched",
    ),
    "approval": (("--ask-for-approval", "-a"), Literal["untrusted", "on-request", "never"], "when to ask"),
    "config": (("--config", "-c"), str, "a setting of config.toml"),
    "profile": (("--profile", "-p"), str, "a profile of config.toml"),
    "enable": (("--enable",), str, "switch a feature on"),
    "disable": (("--disable",), str, "switch a feature off"),
    "strict": (("--strict-config",), bool, "unknown keys in config.toml are errors"),
    "codex_home": (("--codex-home",), Path, "where threads are kept"),
    "clew_home": (("--clew-home",), Path, "where clew keeps its own notes"),
    "debug": (("--debug",), bool, "show tracebacks"),
}
"""What completion scripts offer behind every command; the parsing itself is in `options`."""


def completion(shell: Literal["bash", "zsh", "fish"], /) -> None:
    """Print a completion script.

    Parameters
    ----------
    shell
        The shell that reads it.
    """
    app = application(_with_globals)
    app.default(_stand_in([], ""))  # the options in front of a command
    sys.stdout.write(app.generate_completion(prog_name="clew", shell=shell))


def _with_globals(target: str) -> Callable[..., Any]:
    """A stand-in for a command whose signature shows the global options, too."""
    module, _, name = target.partition(":")
    function = getattr(import_module(module), name)
    hints = get_type_hints(function, include_extras=True)
    own = [
        parameter.replace(annotation=hints[parameter.name])
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name != "options"
    ]
    if own and own[0].kind is inspect.Parameter.VAR_POSITIONAL and own[0].name == "words":
        # The words of `exec` may begin with what to do.
        own.insert(0, inspect.Parameter("action", inspect.Parameter.POSITIONAL_ONLY, default=None, annotation=_ACTIONS))
    return _stand_in(own, function.__doc__ or "")


def _stand_in(own: list[inspect.Parameter], doc: str) -> Callable[..., Any]:
    """A function with these parameters and the global options. It is never called."""
    shared = [
        inspect.Parameter(
            f"global_{field}",
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=Annotated[kind, Parameter(name=names, negative="", help=about)],
        )
        for field, (names, kind, about) in _GLOBAL.items()
    ]

    def stand_in() -> None:
        """Never called."""

    stand_in.__doc__ = doc
    parameters = [*own, *shared]
    stand_in.__signature__ = inspect.Signature(parameters)  # pyright: ignore[reportFunctionMemberAccess] - `inspect` reads it
    stand_in.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return stand_in
