"""The configuration: Codex' file, clew's file, a profile and flags, read into one typed object.

    $CODEX_HOME/config.toml < $CLEW_HOME/config.toml < profile < -c key=value < options < a call's own values

Keys are Codex' own; what clew does not know is left alone. Its own switches stand in the table `[clew]`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, cast

import msgspec

from clew.config.inputs import Inputs, gather_inputs
from clew.config.layers import Merged, Source, map_layer
from clew.config.prices import Price, read_prices
from clew.config.providers import OFFLINE, OPENAI, Provider, read_providers
from clew.config.reader import Reader
from clew.config.retention import Retention, read_retention
from clew.config.sources import SourcedValue, sourced
from clew.config.values import (
    INSTRUCTION_FILES,
    INSTRUCTION_TEXTS,
    SUMMARIES,
    ServerOptions,
    read_approval,
    read_base_instructions,
    read_compact_prompt,
    read_sandbox,
    read_server,
)
from clew.errors import ConfigInvalid, ProviderUnknown
from clew.settings import ApprovalPolicy, Overrides, Sandbox, Settings

__all__ = ["DEFAULT_MODEL", "OFFLINE_MODEL", "Config", "examine", "load"]

DEFAULT_MODEL = "gpt-6.1-sol"
"""The model when none is configured."""

OFFLINE_MODEL = "offline"
"""The model of the offline provider when none is configured."""

_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Config(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What is configured, checked. Names and meanings are those of `config.toml`; None: not configured.

    `model_provider` is the chosen provider's id; `prices` are by model. `warnings` are sentences about things that are
    odd but harmless.
    """

    codex_home: Path
    clew_home: Path
    profile: str | None
    model: str
    model_provider: str
    approval_policy: ApprovalPolicy
    sandbox: Sandbox
    model_reasoning_effort: str | None
    model_reasoning_summary: str | None
    developer_instructions: str | None
    compact_prompt: str | None
    model_context_window: int | None
    model_auto_compact_token_limit: int | None
    tool_output_token_limit: int | None
    project_doc_max_bytes: int
    project_doc_fallback_filenames: tuple[str, ...]
    project_root_markers: tuple[str, ...]
    server: ServerOptions
    prices: Mapping[str, Price]
    retention: Retention
    warnings: tuple[str, ...]
    _providers: dict[str, Provider]
    _refused: dict[str, ConfigInvalid]
    _inputs: Inputs

    def __repr__(self) -> str:
        # The environment and its secrets are inside.
        return (
            f"Config(codex_home={str(self.codex_home)!r}, model={self.model!r}, model_provider={self.model_provider!r})"
        )

    def provider(self, provider_id: str) -> Provider:
        """The provider with this id, its key filled in. Raises `ProviderUnknown`, or `ConfigInvalid` for one that is
        configured for a wire format other than Responses."""
        if provider_id in self._refused:
            raise self._refused[provider_id]
        try:
            return self._providers[provider_id]
        except KeyError:
            raise ProviderUnknown(provider_id, list(self._providers)) from None

    @property
    def providers(self) -> tuple[str, ...]:
        """The ids of all providers, sorted."""
        return tuple(sorted(self._providers))

    @property
    def key_variables(self) -> frozenset[str]:
        """The environment variables that hold keys of model providers: what a model should not get to see."""
        named = {"OPENAI_API_KEY", "CODEX_API_KEY"}
        for provider in self._providers.values():
            named |= {provider.env_key or "", *provider.env_http_headers.values()}
        return frozenset(named - {""})

    def sources(self) -> tuple[SourcedValue, ...]:
        """Each effective key with its value and where that came from; secrets masked."""
        merged = Merged(self._inputs.layers)
        values = msgspec.structs.asdict(self)
        return tuple(sourced(self._inputs, merged, values, self.server, self._providers, self.prices))

    def with_overrides(self, values: Mapping[str, Any]) -> Config:
        """This configuration with a call's own map of dotted keys to JSON values over it.

        Raises `ConfigInvalid`; its `why` is what callers of Codex' server see behind
        `Failed to load Codex configuration from overrides: `.
        """
        return _built(self._with_map(values))

    def settings(self, cwd: str | Path, arguments: Mapping[str, Any] | None = None) -> Settings:
        """The settings of a new thread. Reads the instruction file, if one is configured.

        `cwd` is the folder of the caller. `arguments` are a call's own, under any spelling (`approval-policy`,
        `approvalPolicy`, `approval_policy`): model, model_provider (or provider), cwd, approval_policy, sandbox (a
        mode), effort, summary, base_instructions, developer_instructions, compact_prompt, and `config`, a map for
        `with_overrides` that the named ones win over. None and other names are passed over. Raises `ConfigInvalid`,
        `ProviderUnknown`.
        """
        named = _normalised(arguments)
        config = _built(self._with_map(_call_map(named)))
        endpoint = config.provider(config.model_provider)
        return Settings(
            cwd=_folder(named, cwd) or os.path.normpath(Path(cwd).absolute()),
            model=config.model,
            provider=config.model_provider,
            approval=config.approval_policy,
            sandbox=config.sandbox,
            effort=config.model_reasoning_effort,
            summary=config.model_reasoning_summary,
            base_instructions=config.base_instructions(),
            developer_instructions=config.developer_instructions,
            compact_prompt=config.compact_prompt,
            endpoint=endpoint,
        )

    def overrides_named(
        self, arguments: Mapping[str, Any] | None, *, cwd: str | Path | None = None, with_profile: bool = False
    ) -> Overrides:
        """What a call on an existing thread names in so many words: the same arguments as for `settings`.

        Only what stands in `arguments` or in their `config` map counts, whatever files and flags say; with
        `with_profile` also what a profile sets that was named by a flag, sandbox and approval policy excepted: these
        are a thread's own until somebody names themselves. A relative
        `cwd` argument starts from `cwd`. Raises as `settings` does, and `ConfigInvalid` for sandbox details without
        a sandbox mode beside them, since they would widen an unknown sandbox.
        """
        named = _normalised(arguments)
        values = _call_map(named)
        config = _built(self._with_map(values))
        named_here = Merged([map_layer(values, Path.cwd())])
        merged = Merged([*(self._inputs.profile_layers if with_profile else ()), map_layer(values, Path.cwd())])

        def mentioned(*keys: str) -> bool:
            return any(merged.get((key,)) is not None for key in keys)

        def spelt_out(key: str) -> bool:
            return named_here.get((key,)) is not None

        endpoint = config.provider(config.model_provider) if mentioned("model_provider") else None
        if spelt_out("sandbox_workspace_write") and not spelt_out("sandbox_mode"):
            raise Source("call", "config").invalid("needs `sandbox_mode` beside it", "sandbox_workspace_write")
        return Overrides(
            cwd=_folder(named, cwd if cwd is not None else Path.cwd()),
            model=config.model if mentioned("model") else None,
            provider=config.model_provider if mentioned("model_provider") else None,
            endpoint=endpoint,
            approval=config.approval_policy if spelt_out("approval_policy") else None,
            sandbox=config.sandbox if spelt_out("sandbox_mode") else None,
            effort=config.model_reasoning_effort if mentioned("model_reasoning_effort") else None,
            summary=config.model_reasoning_summary if mentioned("model_reasoning_summary") else None,
            base_instructions=config.base_instructions() if mentioned(*INSTRUCTION_FILES, *INSTRUCTION_TEXTS) else None,
            developer_instructions=config.developer_instructions if mentioned("developer_instructions") else None,
            compact_prompt=config.compact_prompt
            if mentioned("compact_prompt", "experimental_compact_prompt_file")
            else None,
        )

    def set_by_profile(self, *keys: str) -> bool:
        """Whether a profile that was named by a flag sets one of these keys."""
        merged = Merged(self._inputs.profile_layers)
        return any(merged.get((key,)) is not None for key in keys)

    def base_instructions(self) -> str | None:
        """The configured base instructions, read from their file if need be; None means clew's own text."""
        return read_base_instructions(self._inputs.layers, self._inputs.user_home)

    def _with_map(self, values: Mapping[str, Any]) -> Inputs:
        layers = self._inputs.layers
        if values:
            layers = (*layers, map_layer(values, Path.cwd()))
        # The homes may have been replaced since this was read.
        return msgspec.structs.replace(
            self._inputs, layers=layers, codex_home=self.codex_home, clew_home=self.clew_home
        )


_NONE: Mapping[str, tuple[str, Any]] = MappingProxyType({})


def load(
    env: Mapping[str, str],
    *,
    overrides: Sequence[str] = (),
    options: Mapping[str, tuple[str, Any]] = _NONE,
    profile: str | None = None,
    codex_home: str | Path | None = None,
    clew_home: str | Path | None = None,
    strict: bool = False,
) -> Config:
    """Read the configuration. `overrides` are `-c` flags (`key=value`), `options` other options that stand for keys
    (dotted key to the option's name and the value; they win), `profile` the `-p` flag; homes given here win over
    `CODEX_HOME` and `CLEW_HOME` in `env`, whose defaults are `~/.codex` and `~/.clew`. With `strict`, keys that
    neither clew nor Codex knows are wrong.

    Reads small files; blocks. Raises `ConfigInvalid` for the first thing that is wrong.
    """
    config, problems = examine(
        env,
        overrides=overrides,
        options=options,
        profile=profile,
        codex_home=codex_home,
        clew_home=clew_home,
        strict=strict,
    )
    if problems:
        raise problems[0]
    return config


def examine(
    env: Mapping[str, str],
    *,
    overrides: Sequence[str] = (),
    options: Mapping[str, tuple[str, Any]] = _NONE,
    profile: str | None = None,
    codex_home: str | Path | None = None,
    clew_home: str | Path | None = None,
    strict: bool = False,
) -> tuple[Config, list[ConfigInvalid]]:
    """As `load`, but never raises: everything that is wrong comes back beside a configuration without it."""
    inputs, problems = gather_inputs(env, overrides, profile, codex_home, clew_home, options, strict=strict)
    config, wrong = _read(inputs)
    return config, [*problems, *wrong]


def _built(inputs: Inputs) -> Config:
    config, problems = _read(inputs)
    if problems:
        raise problems[0]
    return config


def _read(inputs: Inputs) -> tuple[Config, list[ConfigInvalid]]:
    merged = Merged(inputs.layers)
    reader = Reader(merged, inputs.user_home)
    providers, refused = read_providers(reader, inputs.env, inputs.openai_key[0] if inputs.openai_key else None)
    provider_id = reader.text("model_provider") or OPENAI
    default_model = OFFLINE_MODEL if provider_id == OFFLINE else DEFAULT_MODEL
    values: dict[str, Any] = {
        "model": reader.text("model") or default_model,
        "model_provider": provider_id,
        "approval_policy": read_approval(reader),
        "sandbox": read_sandbox(reader),
        "model_reasoning_effort": reader.text("model_reasoning_effort") or None,
        "model_reasoning_summary": reader.choice("model_reasoning_summary", allowed=SUMMARIES),
        "developer_instructions": reader.text("developer_instructions"),
        "compact_prompt": read_compact_prompt(reader),
        "model_context_window": reader.count("model_context_window"),
        "model_auto_compact_token_limit": reader.count("model_auto_compact_token_limit"),
        "tool_output_token_limit": reader.count("tool_output_token_limit"),
        "project_doc_max_bytes": 32 * 1024 if (most := reader.count("project_doc_max_bytes")) is None else most,
        "project_doc_fallback_filenames": reader.texts("project_doc_fallback_filenames") or (),
        "project_root_markers": (".git",) if (markers := reader.texts("project_root_markers")) is None else markers,
    }
    for key in (*INSTRUCTION_FILES, *INSTRUCTION_TEXTS):
        reader.text(key)  # the texts are read when a thread starts; their types are checked now
    server, unknown = read_server(reader)
    prices, odd = read_prices(reader)
    retention = read_retention(reader)
    notes = inputs.notes if inputs.strict else (*inputs.notes, *unknown, *odd)  # strictly, they are problems already
    config = Config(
        codex_home=inputs.codex_home,
        clew_home=inputs.clew_home,
        profile=inputs.profile,
        server=server,
        prices=prices,
        retention=retention,
        warnings=notes,
        _providers=providers,
        _refused=refused,
        _inputs=inputs,
        **values,
    )
    return config, reader.problems


_ARGUMENTS: Mapping[str, str] = {
    "model": "model",
    "provider": "model_provider",
    "model_provider": "model_provider",
    "approval_policy": "approval_policy",
    "sandbox": "sandbox_mode",
    "sandbox_mode": "sandbox_mode",
    "effort": "model_reasoning_effort",
    "reasoning_effort": "model_reasoning_effort",
    "summary": "model_reasoning_summary",
    "base_instructions": "base_instructions",
    "developer_instructions": "developer_instructions",
    "compact_prompt": "compact_prompt",
}


def _normalised(arguments: Mapping[str, Any] | None) -> dict[str, Any]:
    """Arguments under snake_case names, without None."""
    return {
        _CAMEL.sub("_", name).replace("-", "_").lower(): value
        for name, value in (arguments or {}).items()
        if value is not None
    }


def _call_map(named: Mapping[str, Any]) -> dict[str, Any]:
    """The `config` map of a call with its named arguments over it."""
    given = named.get("config")
    values: dict[str, Any] = {}
    if given is not None:
        if not isinstance(given, Mapping):
            raise ConfigInvalid("config", 0, "expected a map of keys to values")
        values.update(cast("Mapping[str, Any]", given))
    for name, key in _ARGUMENTS.items():
        if name in named:
            # Taken out first, so that the argument comes last and wins over another spelling in the map.
            values.pop(key, None)
            values[key] = named[name]
    return values


def _folder(named: Mapping[str, Any], start: str | Path) -> str | None:
    """The `cwd` argument of a call, absolute; None if there is none."""
    folder = named.get("cwd")
    if folder is None:
        return None
    if not isinstance(folder, str):
        raise ConfigInvalid("cwd", 0, "expected a string")
    return os.path.normpath(Path(start).absolute() / folder)
