"""The meaning of a thread's lines, as pure functions and structs: context, settings, turns, summaries, cuts."""

from clew.history.compaction import (
    KEPT_TOKENS,
    SUMMARY_PREFIX,
    is_summary,
    kept_messages,
    replacement_history,
    summary_message,
    summary_text,
)
from clew.history.context import Context, Window, rebuild_forward
from clew.history.contextual import is_contextual, is_user_boundary
from clew.history.cuts import Cut, find_cut, find_cut_back, find_turn
from clew.history.metadata import Base, ThreadMeta, read_meta
from clew.history.rebuilding import rebuild, rebuild_from
from clew.history.recorded import RecordedSettings
from clew.history.response_items import ContextItem, normalised, open_calls
from clew.history.shown_items import shown_item
from clew.history.summary import Summary, preview_text, summarise, summarise_head
from clew.history.truncation import DEFAULT_POLICY, TruncationPolicy, truncate_middle, truncate_output
from clew.history.turn_offsets import TurnOffsets
from clew.history.turns import Place, Turn, TurnPlace, TurnsSlice, turn_places, turns, turns_page
from clew.history.world_state import advance, diff, merge

__all__ = [
    "DEFAULT_POLICY",
    "KEPT_TOKENS",
    "SUMMARY_PREFIX",
    "Base",
    "Context",
    "ContextItem",
    "Cut",
    "Place",
    "RecordedSettings",
    "Summary",
    "ThreadMeta",
    "TruncationPolicy",
    "Turn",
    "TurnOffsets",
    "TurnPlace",
    "TurnsSlice",
    "Window",
    "advance",
    "diff",
    "find_cut",
    "find_cut_back",
    "find_turn",
    "is_contextual",
    "is_summary",
    "is_user_boundary",
    "kept_messages",
    "merge",
    "normalised",
    "open_calls",
    "preview_text",
    "read_meta",
    "rebuild",
    "rebuild_forward",
    "rebuild_from",
    "replacement_history",
    "shown_item",
    "summarise",
    "summarise_head",
    "summary_message",
    "summary_text",
    "truncate_middle",
    "truncate_output",
    "turn_places",
    "turns",
    "turns_page",
]
