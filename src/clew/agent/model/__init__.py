"""Talking to models: the contract, the HTTP client for the Responses API, and when to try again."""

from clew.agent.model.clients import Models
from clew.agent.model.connections import preload
from clew.agent.model.contracts import (
    Completed,
    Created,
    ItemAdded,
    ItemDone,
    ModelClient,
    ModelEvent,
    ModelRequest,
    Opened,
    RateLimits,
    RateWindow,
    ReasoningDelta,
    TextDelta,
)
from clew.agent.model.responses import ResponsesClient
from clew.agent.model.retries import StreamRetries

__all__ = [
    "Completed",
    "Created",
    "ItemAdded",
    "ItemDone",
    "ModelClient",
    "ModelEvent",
    "ModelRequest",
    "Models",
    "Opened",
    "RateLimits",
    "RateWindow",
    "ReasoningDelta",
    "ResponsesClient",
    "StreamRetries",
    "TextDelta",
    "preload",
]
