"""Where each effective value came from, as `clew config` shows it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

import msgspec

from clew.config.layers import Merged, Source, dotted
from clew.config.positions import KeyPath
from clew.config.prices import PRICE_KEYS, Price
from clew.config.providers import OPENAI, PROVIDER_KEYS, Provider
from clew.config.reader import is_secret
from clew.config.retention import RULE_KEYS, Retention
from clew.config.values import INSTRUCTION_FILES, INSTRUCTION_TEXTS, SANDBOX_KEYS, ServerOptions
from clew.settings import ApprovalPolicy, Sandbox, SandboxMode

if TYPE_CHECKING:
    from clew.config.inputs import Inputs

__all__ = ["SourcedValue", "sourced"]


class SourcedValue(msgspec.Struct, frozen=True):
    """An effective value and where it came from (`path:line`, a flag, a variable or `default`). Secrets are masked."""

    key: str
    value: Any
    source: str


_SIMPLE = (
    "model",
    "model_provider",
    "approval_policy",
    "model_reasoning_effort",
    "model_reasoning_summary",
    "developer_instructions",
    "compact_prompt",
    "model_context_window",
    "model_auto_compact_token_limit",
    "tool_output_token_limit",
    "project_doc_max_bytes",
    "project_doc_fallback_filenames",
    "project_root_markers",
)


def sourced(
    inputs: Inputs,
    merged: Merged,
    values: Mapping[str, Any],
    server: ServerOptions,
    providers: Mapping[str, Provider],
    prices: Mapping[str, Price],
) -> list[SourcedValue]:
    out: list[SourcedValue] = []

    def say(path: KeyPath, value: Any, source: Source | None = None) -> None:
        shown = "********" if is_secret(path) else _plain(value)
        out.append(SourcedValue(dotted(path), shown, str(source or merged.source(path))))

    homes = {"codex_home": inputs.codex_home, "clew_home": inputs.clew_home}
    for (name, home), source in zip(homes.items(), inputs.homes_from, strict=True):
        out.append(SourcedValue(name, str(home), str(source)))
    if inputs.profile:
        by_key = merged.get(("profile",)) == inputs.profile
        source = merged.source(("profile",)) if by_key else Source("flag", "--profile")
        out.append(SourcedValue("profile", inputs.profile, str(source)))
    for key in _SIMPLE:
        say((key,), values[key])
    for key in (*INSTRUCTION_FILES, *INSTRUCTION_TEXTS, "experimental_compact_prompt_file"):
        if merged.get((key,)) is not None:
            say((key,), merged.get((key,)))
    sandbox = cast("Sandbox", values["sandbox"])
    say(("sandbox_mode",), sandbox.mode.value)
    for key in SANDBOX_KEYS:
        # Shown as configured, also where another mode makes it count for nothing.
        configured = merged.get(("sandbox_workspace_write", key))
        effective = sandbox.mode is SandboxMode.WORKSPACE_WRITE or configured is None
        say(("sandbox_workspace_write", key), getattr(sandbox, key) if effective else configured)
    for key in server.__struct_fields__:
        say(("clew", key), getattr(server, key))
    base = providers[OPENAI].base_url
    from_env = merged.get(("openai_base_url",)) is None and inputs.env.get("OPENAI_BASE_URL")
    say(("openai_base_url",), base, Source("env", "OPENAI_BASE_URL") if from_env else None)
    if inputs.openai_key is not None:
        out.append(SourcedValue("openai_api_key", "********", str(inputs.openai_key[1])))
    for provider_id in sorted(providers):
        at = ("model_providers", provider_id)
        for key, shape in PROVIDER_KEYS.items():
            value = merged.get((*at, key))
            if value is None:
                continue
            if shape == "plain" or not isinstance(value, dict):
                say((*at, key), value)
            else:
                for name, inner in sorted(cast("dict[str, Any]", value).items()):
                    say((*at, key, name), inner)
    for model in sorted(prices):
        for key in PRICE_KEYS:
            if (amount := getattr(prices[model], key)) is not None:
                say(("stats", "prices", model, key), amount)
    retention = cast("Retention", values["retention"])
    for key in ("keep_newest", "keep_tags"):
        say(("retention", key), getattr(retention, key))
    for rule in retention.rules:
        at = ("retention", "rules", rule.name)
        for key in RULE_KEYS:
            # As it was written: "90d" says more than seconds.
            if (value := merged.get((*at, key))) is not None:
                say((*at, key), value)
    return out


def _plain(value: Any) -> Any:
    """A value as JSON has it, passwords in addresses masked."""
    if isinstance(value, (ApprovalPolicy, SandboxMode)):
        return value.value
    if isinstance(value, str):
        return re.sub(r"(://)[^/@\s]+@", r"\1********@", value)
    if isinstance(value, tuple):
        return list(cast("tuple[Any, ...]", value))
    return value
