"""Configuration: Codex' keys from Codex' and clew's files, profiles, flags and calls."""

from clew.config.configuration import (
    DEFAULT_MODEL,
    OFFLINE_MODEL,
    Config,
    examine,
    load,
)
from clew.config.layers import Source, parse_overrides
from clew.config.providers import OFFLINE, OPENAI, OPENAI_URL, Provider
from clew.config.sources import SourcedValue
from clew.config.values import ServerOptions

__all__ = [
    "DEFAULT_MODEL",
    "OFFLINE",
    "OFFLINE_MODEL",
    "OPENAI",
    "OPENAI_URL",
    "Config",
    "Provider",
    "ServerOptions",
    "Source",
    "SourcedValue",
    "examine",
    "load",
    "parse_overrides",
]
