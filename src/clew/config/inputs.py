"""What a configuration is made from: homes, environment, files, profile, flags, and the login file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from clew.config.known_keys import unknown_keys
from clew.config.layers import Layer, Merged, Source, flag_layer, option_layers, read_layer
from clew.errors import ConfigInvalid

__all__ = ["Inputs", "gather_inputs"]


class Inputs(msgspec.Struct, frozen=True, kw_only=True):
    """All a configuration is made from; kept to lay further values over it. `profile_layers` are those of `layers` that
    belong to a profile that was named on the command line."""

    codex_home: Path
    clew_home: Path
    homes_from: tuple[Source, Source]
    user_home: Path
    env: Mapping[str, str]
    layers: tuple[Layer, ...]
    profile_layers: tuple[Layer, ...]
    strict: bool
    profile: str | None
    openai_key: tuple[str, Source] | None
    notes: tuple[str, ...]


_PROFILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def gather_inputs(
    env: Mapping[str, str],
    overrides: Sequence[str],
    profile: str | None,
    codex_home: str | Path | None,
    clew_home: str | Path | None,
    options: Mapping[str, tuple[str, Any]],
    *,
    strict: bool,
) -> tuple[Inputs, list[ConfigInvalid]]:
    """Read all files. What cannot be read comes back as problems and is left out; with `strict`, unknown keys of files
    and flags are problems, too."""
    user_home = Path(env.get("HOME") or env.get("USERPROFILE") or Path.home())
    codex = _home(codex_home or env.get("CODEX_HOME"), user_home, ".codex")
    clew = _home(clew_home or env.get("CLEW_HOME"), user_home, ".clew")
    problems: list[ConfigInvalid] = []

    def read(path: Path) -> Layer | None:
        try:
            return read_layer(path)
        except ConfigInvalid as error:
            problems.append(error)
            return None

    files = [layer for home in (codex, clew) if (layer := read(home / "config.toml")) is not None]
    flags: list[Layer] = []
    try:
        flags = [flag_layer(overrides, Path.cwd())]
    except ConfigInvalid as error:
        problems.append(error)
    flags += option_layers(options, Path.cwd())
    given = [*files, *flags]
    further: list[Layer] = []
    chosen = (profile, Source("flag", "--profile")) if profile else _chosen_profile(given)
    profiles: list[Layer] = []
    if chosen is not None:
        name, source = chosen
        if _PROFILE_NAME.fullmatch(name):
            profiles = [found for layer in files if (found := layer.profile(name)) is not None]
            further = [layer for home in (codex, clew) if (layer := read(home / f"{name}.config.toml")) is not None]
            profiles += further
        if not profiles:
            why = f"there is no profile `{name}` (neither [profiles.{name}] nor {name}.config.toml)"
            problems.append(source.invalid(why, "profile"))
    if strict:
        problems += unknown_keys([*files, *further, *flags])
    key, notes = _openai_key(env, codex)
    inputs = Inputs(
        codex_home=codex,
        clew_home=clew,
        homes_from=(_home_source(env, codex_home, "CODEX_HOME"), _home_source(env, clew_home, "CLEW_HOME")),
        user_home=user_home,
        env=env,
        layers=(*files, *profiles, *flags),
        profile_layers=tuple(profiles) if chosen is not None and chosen[1].kind == "flag" else (),
        strict=strict,
        profile=chosen[0] if chosen and profiles else None,
        openai_key=key,
        notes=notes,
    )
    return inputs, problems


def _home(value: str | Path | None, user_home: Path, default: str) -> Path:
    if not value:
        return (user_home / default).absolute()
    text = str(value)
    if text == "~" or text.startswith("~/"):
        return (user_home / text[2:]).absolute()
    return Path(text).absolute()


def _home_source(env: Mapping[str, str], given: str | Path | None, variable: str) -> Source:
    if given:
        return Source("flag", f"--{variable.lower().replace('_', '-')}")
    return Source("env", variable) if env.get(variable) else Source("default")


def _chosen_profile(layers: Sequence[Layer]) -> tuple[str, Source] | None:
    merged = Merged(layers)
    name = merged.get(("profile",))
    return (name, merged.source(("profile",))) if isinstance(name, str) and name else None


class _Login(msgspec.Struct):
    OPENAI_API_KEY: str | None = None
    auth_mode: str | None = None
    tokens: Any = None


def _openai_key(env: Mapping[str, str], codex_home: Path) -> tuple[tuple[str, Source] | None, tuple[str, ...]]:
    """The key of the built-in provider, where it came from, and notes on why another source gave none."""
    for name in ("OPENAI_API_KEY", "CODEX_API_KEY"):
        value = env.get(name, "").strip()
        if value:
            return (value, Source("env", name)), ()
    path = codex_home / "auth.json"
    try:
        login = msgspec.json.decode(path.read_bytes(), type=_Login)
    except FileNotFoundError:
        return None, ()
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None, (f"{path} cannot be read as a login file; set OPENAI_API_KEY instead.",)
    if login.OPENAI_API_KEY and login.OPENAI_API_KEY.strip():
        return (login.OPENAI_API_KEY.strip(), Source("auth", str(path))), ()
    if login.tokens:
        return None, (f"{path} holds a ChatGPT login, which only Codex itself can use; set OPENAI_API_KEY for clew.",)
    return None, ()
