"""When an endpoint is asked again, and after how long."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from clew.agent.model.faults import answer_error, failure_error, incomplete_error, retry_after
from clew.agent.model.retries import RequestRetries, StreamRetries, backoff, named_wait
from clew.config.providers import Provider
from clew.errors import ClewError, ContextFull, EndpointUnreachable, KeyMissing, ModelError

PROVIDER = Provider(id="p", name="P", base_url="http://127.0.0.1:1/v1", env_key="P_KEY")


def middle() -> float:
    return 0.5


def delays(next_delay: Callable[[], float | None]) -> list[float]:
    return [round(delay, 6) for delay in iter(next_delay, None)]


OUTER = [0.2, 0.4, 0.8, 1.6, 3.2]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ModelError("x", kind="stream_ended"), OUTER),
        (ModelError("x", kind="idle"), OUTER),
        (ModelError("x", kind="stream"), OUTER),
        (ModelError("x", kind="connection"), OUTER),
        (EndpointUnreachable("http://e", "refused"), OUTER),
        (answer_error(PROVIDER, 500, {}, b"", 0), OUTER),
        (answer_error(PROVIDER, 403, {}, b"", 0), OUTER),
        (answer_error(PROVIDER, 404, {}, b"", 0), OUTER),
        (failure_error({"code": "server_error", "message": "boom"}), OUTER),
        (failure_error({"code": "slow_down", "message": "slower"}), OUTER),
        (failure_error(None), OUTER),
        (incomplete_error({"reason": "content_filter"}), OUTER),
        (incomplete_error(None), OUTER),
        (failure_error({"code": "rate_limit_exceeded", "message": "Please try again in 1.5s."}), [1.5] * 5),
        (failure_error({"code": "rate_limit_exceeded", "message": "Please wait."}), OUTER),
        (failure_error({"code": "server_error", "message": "try again in 9s"}), OUTER),
        (answer_error(PROVIDER, 429, {"retry-after": "2"}, b"", 0), [2.0] * 5),
        (answer_error(PROVIDER, 503, {"retry-after": "2"}, b"", 0), [2.0] * 5),
        (answer_error(PROVIDER, 429, {"retry-after": "7200"}, b"", 0), []),
        (answer_error(PROVIDER, 429, {}, b"", 0), []),
        (answer_error(PROVIDER, 400, {}, b'{"error":{"message":"no","code":"odd"}}', 0), []),
        (answer_error(PROVIDER, 401, {}, b"", 0), []),
        (answer_error(PROVIDER, 429, {"retry-after": "2"}, b'{"error":{"type":"usage_limit_reached"}}', 0), []),
        (failure_error({"code": "invalid_prompt"}), []),
        (failure_error({"code": "cyber_policy"}), []),
        (failure_error({"code": "context_length_exceeded"}), []),
        (failure_error({"code": "insufficient_quota"}), []),
        (failure_error({"code": "usage_not_included"}), []),
        (failure_error({"code": "server_is_overloaded"}), []),
        (incomplete_error({"reason": "max_output_tokens"}), []),
        (KeyMissing("P_KEY", "p"), []),
    ],
)
def test_a_response_is_repeated_only_where_that_can_help(error: ClewError, expected: list[float]) -> None:
    retries = StreamRetries(PROVIDER, middle)
    assert delays(lambda: retries.next_delay(error)) == expected


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ModelError("x", kind="connection"), [0.2, 0.4, 0.8, 1.6]),
        (answer_error(PROVIDER, 500, {}, b"", 0), [0.2, 0.4, 0.8, 1.6]),
        (answer_error(PROVIDER, 503, {"retry-after": "2"}, b"", 0), [2.0] * 4),
        (answer_error(PROVIDER, 429, {"retry-after": "2"}, b"", 0), [2.0] * 4),
        (answer_error(PROVIDER, 429, {"retry-after": "90"}, b"", 0), []),
        (answer_error(PROVIDER, 429, {}, b"", 0), []),
        (answer_error(PROVIDER, 400, {}, b"", 0), []),
        (answer_error(PROVIDER, 401, {}, b"", 0), []),
        (answer_error(PROVIDER, 404, {}, b"", 0), []),
        (answer_error(PROVIDER, 503, {}, b'{"error":{"code":"server_is_overloaded"}}', 0), []),
        (EndpointUnreachable("http://e", "refused"), []),
        (ModelError("x", kind="idle"), []),
    ],
)
def test_a_request_is_repeated_unseen_only_after_server_errors_and_lost_connections(
    error: ModelError, expected: list[float]
) -> None:
    retries = RequestRetries(PROVIDER, middle)
    assert delays(lambda: retries.next_delay(error)) == expected


def test_the_notice_counts_and_gives_the_reason() -> None:
    retries = StreamRetries(PROVIDER, middle)
    error = ModelError("the stream ended", kind="stream_ended")
    notices: list[str] = []
    while retries.next_delay(error) is not None:
        notices.append(retries.notice(error))
    assert notices == [f"Reconnecting... {count}/5 (the stream ended)" for count in range(1, 6)]


def test_waits_double_with_a_tenth_of_chance_and_stay_within_a_minute() -> None:
    assert [round(backoff(n, lambda: 0.0), 3) for n in range(3)] == [0.18, 0.36, 0.72]
    assert [round(backoff(n, lambda: 1.0), 3) for n in range(3)] == [0.22, 0.44, 0.88]
    assert backoff(100, middle) == 60.0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Please try again in 1.5s. Visit", 1.5),
        ("try again in 350ms", 0.35),
        ("Try again in 20 seconds.", 20.0),
        ("try again in 1 second", 1.0),
        ("try again in 6m0.5s", 360.5),
        ("try again in 2 minutes", 120.0),
        ("try again in 5 lifetimes", None),
        ("try again later", None),
    ],
)
def test_times_are_read_from_sentences(text: str, seconds: float | None) -> None:
    assert named_wait(text) == (None if seconds is None else pytest.approx(seconds))


def test_times_are_read_from_headers() -> None:
    assert retry_after({"retry-after": "2"}, 0) == 2.0
    assert retry_after({"retry-after-ms": "250", "retry-after": "2"}, 0) == 0.25
    assert retry_after({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 60) == 40.0
    assert retry_after({"retry-after": "Thu, 01 Jan 1970 00:01:40 GMT"}, 600) == 0.0
    assert [retry_after({"retry-after": text}, 0) for text in ("soon", "-1", "inf", "")] == [None] * 4


def test_errors_speak_with_the_servers_words() -> None:
    bodies = [b'{"error":{"message":"no"}}', b'{"error":"no"}', b'{"message":"no"}', b'{"detail":"no"}', b"no", b'"no"']
    assert [answer_error(PROVIDER, 500, {}, body, 0).message for body in bodies] == ["no"] * 6
    for body in (b"", b"<html>oops</html>", b"[]", b"{}"):
        assert (
            answer_error(PROVIDER, 500, {}, body, 0).message == "the model endpoint answered 500 Internal Server Error"
        )
    error = answer_error(PROVIDER, 502, {}, b'{"error":{"message":"no","code":"bad_luck"}}', 0)
    assert (error.kind, error.status) == ("bad_luck", 502)
    assert answer_error(PROVIDER, 599, {}, b"", 0).kind == "http_599"


def test_a_full_window_is_recognised_by_code_and_by_words() -> None:
    coded = answer_error(PROVIDER, 400, {}, b'{"error":{"message":"m","code":"context_length_exceeded"}}', 0)
    worded = answer_error(PROVIDER, 400, {}, b'{"message":"This model\'s maximum context length is 4096 tokens"}', 0)
    failed = failure_error({"code": "context_length_exceeded", "message": "too long"})
    assert [type(error) for error in (coded, worded, failed)] == [ContextFull] * 3


def test_a_refused_key_names_its_variable() -> None:
    error = answer_error(PROVIDER, 401, {}, b'{"error":{"message":"bad key","code":"invalid_api_key"}}', 0)
    assert error.message == "the model provider p did not accept the API key in P_KEY (401): bad key"
    assert (error.kind, error.hint) == ("http_401", "Check the value of P_KEY.")


def test_a_usage_limit_says_when_it_ends() -> None:
    body = b'{"error":{"type":"usage_limit_reached","message":"limit","resets_at":1800000000}}'
    error = answer_error(PROVIDER, 429, {}, body, 0)
    assert (error.kind, error.hint) == ("usage_limit_reached", "The limit resets at 2027-01-15 08:00 UTC.")
    error = failure_error({"code": "usage_limit_reached", "message": "limit", "resets_in_seconds": 5400})
    assert error.hint == "The limit resets in 1 h 30 min."
