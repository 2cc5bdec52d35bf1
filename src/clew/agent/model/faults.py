"""How an endpoint's refusals become errors of ours: one place for codes, texts and the times they name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import msgspec

from clew.agent.model.retries import FINAL_KINDS, named_wait
from clew.config.providers import Provider
from clew.errors import ContextFull, ModelError

__all__ = ["answer_error", "failure_error", "incomplete_error", "retry_after", "shown_url"]

LONGEST_MESSAGE = 2000
"""Characters of a server's message that are passed on."""

# Endpoints that have no code for it say it in words.
_FULL = re.compile(r"maximum context length|context (?:window|length|size) (?:is )?exceed|exceeds? the context", re.I)


def answer_error(provider: Provider, status: int, headers: Mapping[str, str], body: bytes, now: float) -> ModelError:
    """The error for an HTTP answer that is not a stream. `headers` are lower-case, `now` is wall time in seconds."""
    code, kind_word, message, details = _read(body)
    if not message:
        message = f"the model endpoint answered {status} {_phrase(status)}".rstrip()
    known = code or (kind_word if kind_word in FINAL_KINDS else None)
    detail = _detail(provider, status, message, body)
    if status in (400, 413) and (known == "context_length_exceeded" or _FULL.search(message)):
        return ContextFull(message, detail=detail)
    hint = ""
    if status == 401:
        source = f"in {provider.env_key}" if provider.env_key else "of the model provider"
        message = f"the model provider {provider.id} did not accept the API key {source} (401): {message}"
        hint = f"Check the value of {provider.env_key}." if provider.env_key else "Check the provider's `env_key`."
        known = "http_401"
    elif known == "usage_limit_reached":
        hint = _reset_hint(details)
    return ModelError(
        message,
        kind=known or f"http_{status}",
        status=status,
        retry_after=retry_after(headers, now),
        hint=hint,
        detail=detail,
    )


def _detail(provider: Provider, status: int, message: str, body: bytes) -> str | None:
    # `codex exec` hands on the body of a 400 as it came, and wraps most others; programs look for these words.
    if status == 400:
        return body.decode("utf-8", "replace") or None
    if status in (429, 500):
        return None
    url = f"{shown_url(provider.base_url).rstrip('/')}/responses"
    return f"unexpected status {status} {_phrase(status)}: {message}, url: {url}"


def shown_url(url: str) -> str:
    """An address without a user's name and password, and without a query if it has those."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2], query="")) if "@" in parts.netloc else url


def failure_error(error: object) -> ModelError:
    """The error for the `error` object of a `response.failed` or `error` event."""
    details = cast("dict[str, Any]", error) if isinstance(error, dict) else {}
    code = _text(details.get("code")) or _text(details.get("type")) or "failed"
    message = _text(details.get("message")) or f"the model endpoint reported a failure ({code})"
    message = message[:LONGEST_MESSAGE]
    if code == "context_length_exceeded":
        return ContextFull(message)
    wait = named_wait(message) if code == "rate_limit_exceeded" else None
    hint = _reset_hint(details) if code == "usage_limit_reached" else ""
    return ModelError(message, kind=code, retry_after=wait, hint=hint)


def incomplete_error(details: object) -> ModelError:
    """The error for the `incomplete_details` of a `response.incomplete` event."""
    reason = _text(cast("dict[str, Any]", details).get("reason")) if isinstance(details, dict) else ""
    texts = {
        "max_output_tokens": "the model stopped at its limit of output tokens",
        "content_filter": "the endpoint's content filter stopped the response",
    }
    message = texts.get(reason, f"the response is incomplete: {reason or 'no reason given'}")
    return ModelError(message, kind=reason or "incomplete")


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """The seconds that `retry-after` (seconds or a date) or `retry-after-ms` asks for; None if it says nothing."""
    milliseconds = _number(headers.get("retry-after-ms", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    text = headers.get("retry-after", "").strip()
    if not text:
        return None
    seconds = _number(text)
    if seconds is not None:
        return seconds
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    return max(0.0, moment.timestamp() - now)


def _read(body: bytes) -> tuple[str, str, str, dict[str, Any]]:
    # Endpoints say {"error": {...}}, {"error": "text"}, {"message": "text"}, {"detail": "text"} or plain text.
    try:
        decoded: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = " ".join(body.decode("utf-8", "replace").split())
        return "", "", "" if text.startswith("<") else text[:LONGEST_MESSAGE], {}
    if not isinstance(decoded, dict):
        return "", "", decoded[:LONGEST_MESSAGE] if isinstance(decoded, str) else "", {}
    answer = cast("dict[str, Any]", decoded)
    inner: object = answer.get("error", answer)
    details = cast("dict[str, Any]", inner) if isinstance(inner, dict) else answer
    message = inner if isinstance(inner, str) else _text(details.get("message")) or _text(details.get("detail"))
    return _text(details.get("code")), _text(details.get("type")), message[:LONGEST_MESSAGE], details


def _reset_hint(details: Mapping[str, Any]) -> str:
    at, seconds = details.get("resets_at"), details.get("resets_in_seconds")
    if isinstance(at, int | float):
        try:
            return f"The limit resets at {datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC."
        except (OverflowError, ValueError, OSError):
            return ""
    if isinstance(seconds, int | float):
        minutes = max(1, round(seconds / 60))
        return f"The limit resets in {minutes // 60} h {minutes % 60} min."
    return ""


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value < float("inf") else None


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""
