"""Which messages only tell the model about its surroundings, and which ones begin a turn of the user."""

from __future__ import annotations

import re
from typing import Any

from clew.history.payload import object_from, part_texts

__all__ = ["ENVELOPE", "envelope_text", "is_contextual", "is_mixed_developer", "is_user_boundary"]

ENVELOPE = b'"text":"{\\"author\\"'
"""How the text of such an envelope begins in a line, as its writers lay it out."""

_USER_TAGS = (
    "user_instructions",
    "environment_context",
    "skill",
    "user_shell_command",
    "turn_aborted",
    "subagent_notification",
    "recommended_plugins",
    "goal_context",
    "additional_context",
    "hook_prompt",
)
_USER = re.compile(
    r"\s*(?:"
    + "|".join(rf"<{tag}>.*</{tag}>" for tag in _USER_TAGS)
    + r"|<codex_internal_context\s+source=.*</codex_internal_context>"
    + r"|<hook_prompt\s.*</hook_prompt>"
    + r"|<additional_context\s.*</additional_context>"
    + r"|<skill\s.*</skill>"
    + r"|\# AGENTS\.md instructions.*</INSTRUCTIONS>"
    + r")\s*",
    re.IGNORECASE | re.DOTALL,
)
_WARNINGS = (
    "Warning: The maximum number of unified exec processes you can keep open is",
    "Warning: apply_patch was requested via ",
    "Warning: Your account was flagged for potentially high-risk cyber activity",
)
_DEVELOPER = tuple(
    f"<{tag}>"
    for tag in (
        "permissions instructions",
        "model_switch",
        "apps_instructions",
        "collaboration_mode",
        "multi_agent_mode",
        "environments_instructions",
        "plugins_instructions",
        "realtime_conversation",
        "skills_instructions",
        "personality_spec",
        "token_budget",
        "context_window",
        "context_window_guidance",
        "rollout_budget",
    )
)


def _user_part(text: str) -> bool:
    start = text.lstrip()
    if start.startswith(_WARNINGS):
        return True
    # Most texts are people's own and long; only those that open like one of ours are looked at whole.
    return start[:1] in "<#" and _USER.fullmatch(text) is not None


def _developer_part(text: str) -> bool:
    return text.lstrip().lower().startswith(_DEVELOPER)


def is_contextual(item: dict[str, Any]) -> bool:
    """Whether a user or developer message carries surroundings (environment, permissions, AGENTS.md, notices)."""
    if item.get("type") != "message":
        return False
    match item.get("role"):
        case "user":
            return any(map(_user_part, part_texts(item.get("content"))))
        case "developer":
            return any(map(_developer_part, part_texts(item.get("content"))))
        case _:
            return False


def is_mixed_developer(item: dict[str, Any]) -> bool:
    """Whether a contextual developer message also carries other text, which nobody would say again."""
    if item.get("type") != "message" or item.get("role") != "developer":
        return False
    kinds = set(map(_developer_part, part_texts(item.get("content"))))
    return kinds == {True, False}


def is_user_boundary(item: dict[str, Any]) -> bool:
    """Whether a turn of the user begins with this response item: their message, or another agent's."""
    match item.get("type"), item.get("role"):
        case "agent_message", _:
            return True
        case "message", "user":
            return not is_contextual(item)
        case "message", "assistant":
            return _is_envelope(part_texts(item.get("content")))
        case _:
            return False


def _is_envelope(texts: list[str]) -> bool:
    return len(texts) == 1 and envelope_text(texts[0]) is not None


def envelope_text(said: str) -> str | None:
    """What one agent told another, where an assistant message is such an envelope: old versions passed messages between
    agents as one JSON object. None where it is none."""
    if not said.lstrip().startswith("{"):
        return None
    value = object_from(said.encode("utf-8", "surrogatepass"))
    if value is None or not all(isinstance(value.get(key), str) for key in ("author", "recipient", "content")):
        return None
    return str(value["content"])
