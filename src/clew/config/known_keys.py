"""The keys that config files may have, for those who want every other one refused (`--strict-config`).

Besides clew's own keys these are the ones of Codex, which reads the same files. Looked at are the top level, profiles
and the tables that clew reads; what stands in other tables is Codex' own business.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any, cast

from clew.config.layers import Layer, dotted
from clew.config.positions import KeyPath
from clew.config.prices import PRICE_KEYS
from clew.config.providers import PROVIDER_KEYS
from clew.config.values import SANDBOX_KEYS, ServerOptions
from clew.errors import ConfigInvalid

__all__ = ["unknown_keys"]

_TOP_NAMES = """
    agents allow_login_shell analytics approval_policy approvals_reviewer apps apps_mcp_product_sku audio auto_review
    background_terminal_max_timeout base_instructions browser_use chatgpt_base_url check_for_update_on_startup
    clew cli_auth_credentials_store cloud compact_prompt computer_use debug default_permissions desktop
    developer_instructions disable_paste_burst experimental_compact_prompt_file experimental_instructions_file
    experimental_realtime_start_instructions experimental_realtime_webrtc_call_base_url
    experimental_realtime_ws_backend_prompt experimental_realtime_ws_base_url experimental_realtime_ws_model
    experimental_realtime_ws_startup_context experimental_thread_config_endpoint experimental_thread_store
    experimental_use_unified_exec_tool features feedback file_opener forced_chatgpt_workspace_id forced_login_method
    ghost_snapshot goals hide_agent_reasoning history hooks include_apps_instructions
    include_collaboration_mode_instructions include_environment_context include_permissions_instructions instructions
    js_repl_node_module_dirs js_repl_node_path log_dir marketplaces mcp_oauth_callback_port mcp_oauth_callback_url
    mcp_oauth_credentials_store mcp_servers memories model model_auto_compact_token_limit
    model_auto_compact_token_limit_scope model_catalog_json model_context_window model_instructions_file
    model_provider model_providers model_reasoning_effort model_reasoning_summary model_supports_reasoning_summaries
    model_verbosity notice notify openai_base_url orchestrator oss_provider otel permissions personality
    plan_mode_reasoning_effort plugins profile profiles project_doc_fallback_filenames project_doc_max_bytes
    project_root_markers projects realtime review_model sandbox_mode sandbox_workspace_write service_tier
    shell_environment_policy show_raw_agent_reasoning skills sqlite_home stats suppress_unstable_features_warning
    tool_output_token_limit tool_suggest tools tui web_search windows
    """
_TOP = frozenset(_TOP_NAMES.split())
_PROVIDER = frozenset({*PROVIDER_KEYS, "auth", "aws", "supports_websockets", "websocket_connect_timeout_ms"})


def unknown_keys(layers: Iterable[Layer]) -> list[ConfigInvalid]:
    """One problem for each key that neither clew nor Codex knows."""
    out: list[ConfigInvalid] = []
    for layer in layers:
        for path, known in _unknown(layer.values, ()):
            source = layer.source(path)
            near = get_close_matches(path[-1], known, n=1)
            hint = f"; did you mean `{dotted((*path[:-1], near[0]))}`?" if near else ""
            out.append(ConfigInvalid(source.name, source.line, f"`{dotted(path)}` is not known{hint}"))
    return out


def _unknown(table: Mapping[str, Any], at: KeyPath) -> Iterator[tuple[KeyPath, Collection[str]]]:
    """The unknown keys of a top level or a profile, each with those that would be known in its place."""
    for key, value in table.items():
        path = (*at, key)
        inner = cast("dict[str, Any]", value) if isinstance(value, dict) else {}
        match key:
            case "clew":
                yield from _others(inner, path, ServerOptions.__struct_fields__)
            case "sandbox_workspace_write":
                yield from _others(inner, path, SANDBOX_KEYS)
            case "model_providers":
                for name, provider in inner.items():
                    yield from _others(provider, (*path, name), _PROVIDER)
            case "stats":
                yield from _others(inner, path, ("prices",))
                prices = inner.get("prices")
                for name, price in cast("dict[str, Any]", prices).items() if isinstance(prices, dict) else ():
                    yield from _others(price, (*path, "prices", name), PRICE_KEYS)
            case "retention":
                pass  # read strictly always
            case "profiles":
                for name, profile in inner.items():
                    if isinstance(profile, dict):
                        yield from _unknown(cast("dict[str, Any]", profile), (*path, name))
            case _:
                if key not in _TOP:
                    yield path, _TOP


def _others(table: Any, at: KeyPath, known: Collection[str]) -> Iterator[tuple[KeyPath, Collection[str]]]:
    if isinstance(table, dict):
        yield from (((*at, key), known) for key in cast("dict[str, Any]", table) if key not in known)
