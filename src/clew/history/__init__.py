"""The meaning of a thread's lines, as pure functions and structs: context, settings, turns, summaries, cuts."""

from clew.history.context import Context, Window, rebuild, rebuild_forward
from clew.history.metadata import ThreadMeta, read_meta
from clew.history.recorded import RecordedSettings
from clew.history.response_items import ContextItem
from clew.history.truncation import TruncationPolicy

__all__ = [
    "Context",
    "ContextItem",
    "RecordedSettings",
    "ThreadMeta",
    "TruncationPolicy",
    "Window",
    "read_meta",
    "rebuild",
    "rebuild_forward",
]
