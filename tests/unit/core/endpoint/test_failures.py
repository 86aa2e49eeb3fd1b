import json
from datetime import UTC, datetime, timedelta, timezone
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import FailureKind
from aimicromind_testing import Recording, recording_names
from aimicromind_worker.core.endpoint.call_failed import CallFailed, Doubtful, Lasting, Passing
from aimicromind_worker.core.endpoint.failures import (
    failure_of_status,
    failure_of_text,
    read_retry_after,
    unknown_flow,
)
from tests.support.builders import MODERATE, SECRET

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
OUR_OWN_PART = "Error: predictionsServices.buildChatflow - "


@pytest.mark.parametrize("before", ["", OUR_OWN_PART])
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Unauthorized", "unauthorized"),
        ("401 Unauthorized \u2013 check your API key and ensure it has access", "unauthorized"),
        ("Unauthorised", "unauthorized"),
        ("401 Incorrect API key provided", "unauthorized"),
        ("Invalid API key", "unauthorized"),
        ("403 You are not allowed to access this model", "forbidden"),
        ("This site is not allowed to access this chatbot", "forbidden"),
        ("400 This model's maximum context length is 8192 tokens", "bad_request"),
        ("400 Invalid value for 'content'", "bad_request"),
        ("Bad Request", "bad_request"),
        ("invalid_request_error", "bad_request"),
        ("413 Request too large for model", "bad_request"),
        ("Invalid JSON in the tool's arguments", "bad_request"),
        ("Invalid MIME type: expected application/pdf", "bad_request"),
        ("Form is required", "bad_request"),
        ("429 Rate limit reached for fake-model", "rate_limited"),
        ("Too Many Requests", "rate_limited"),
        ("429 x\n\nTroubleshooting URL: https://docs.example/errors/MODEL_RATE_LIMIT/\n",
         "rate_limited"),
        ("You exceeded your current quota", "rate_limited"),
        ("Connection error.", "endpoint_unavailable"),
        ("The model is unreachable", "endpoint_unavailable"),
        ("connect ECONNREFUSED 127.0.0.1:9999", "endpoint_unavailable"),
        ("getaddrinfo ENOTFOUND model.example", "endpoint_unavailable"),
        ("getaddrinfo EAI_AGAIN model.example", "endpoint_unavailable"),
        ("read ETIMEDOUT", "endpoint_unavailable"),
        ("Request timed out.", "endpoint_unavailable"),
        ("socket hang up", "endpoint_unavailable"),
        ("fetch failed", "endpoint_unavailable"),
        ("terminated", "endpoint_unavailable"),
        ("503 The engine is currently overloaded", "endpoint_unavailable"),
        ("Overloaded", "endpoint_unavailable"),
        ("502 Bad Gateway", "endpoint_unavailable"),
        ("Service Unavailable", "endpoint_unavailable"),
        ("Chatflow 00000000-0000-4000-8000-000000000000 not found in the database!",
         "chatflow_not_found"),
        ("Error in LLM node: This operation was aborted", "endpoint_error"),
        ("The server had an error while processing your request (fake midstream).",
         "endpoint_error"),
        ("Cannot read properties of undefined (reading 'x')", "endpoint_error"),
        ("500 Internal Server Error", "endpoint_error"),
        ("The contract was terminated by the customer", "endpoint_error"),
        ("order 14290 and room 4010", "endpoint_error"),
        ("", "endpoint_error"),
    ],
)  # fmt: skip
def test_text_of_an_error_frame_tells_the_kind(before: str, text: str, kind: str) -> None:
    assert failure_of_text(before + text).kind == kind


def test_only_an_unknown_text_is_doubtful() -> None:
    assert isinstance(failure_of_text("whatever"), Doubtful)
    assert isinstance(failure_of_text("This operation was aborted"), Lasting)
    assert isinstance(failure_of_text("Unauthorized"), Lasting)
    assert isinstance(failure_of_text("terminated"), Passing)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (301, "redirect_refused"),
        (308, "redirect_refused"),
        (400, "bad_request"),
        (401, "unauthorized"),
        (403, "forbidden"),
        (404, "configuration"),
        (405, "bad_request"),
        (408, "endpoint_unavailable"),
        (413, "too_large"),
        (422, "bad_request"),
        (425, "endpoint_unavailable"),
        (429, "rate_limited"),
        (500, "endpoint_error"),
        (502, "endpoint_unavailable"),
        (503, "endpoint_unavailable"),
        (504, "endpoint_unavailable"),
        *((status, "endpoint_unavailable") for status in range(520, 531)),
        (598, "endpoint_unavailable"),
        (599, "endpoint_unavailable"),
        (501, "endpoint_error"),
        (505, "endpoint_error"),
        (531, "endpoint_error"),
        (204, "endpoint_error"),
    ],
)
@pytest.mark.parametrize("text", ["", "something else"])
def test_status_tells_the_kind(status: int, kind: str, text: str) -> None:
    failure = failure_of_status(status, text)

    assert (failure.kind, failure.http_status) == (kind, status)


@pytest.mark.parametrize("status", [500, 501, 597])
def test_text_decides_where_the_status_says_nothing(status: int) -> None:
    failure = failure_of_status(status, f"{OUR_OWN_PART}Unauthorized")

    assert (failure.kind, failure.http_status) == (FailureKind.UNAUTHORIZED, status)


RECORDED = {
    "err-badjson": ("bad_request", 400),
    "err-key-missing-json": ("unauthorized", 500),
    "err-key-missing-stream": ("unauthorized", None),
    "err-unknown-id-json": ("chatflow_not_found", 404),
    "flowise2-err-key-missing-stream": ("unauthorized", None),
    "flowise2-err-unknown-id-json": ("chatflow_not_found", 500),
    "model-401": ("unauthorized", None),
    "model-429": ("rate_limited", None),
    "model-midstream-err": ("endpoint_error", None),
    "plural-stream": ("unauthorized", 401),
    "rl-3-exceeded": ("rate_limited", 429),
    "abort-d-agentflow-llm": ("endpoint_error", None),
}


def recorded_failure(recording: Recording) -> CallFailed | None:
    errors = [frame["data"] for frame in recording.frames() if frame["event"] == "error"]
    if recording.status == 200:
        return failure_of_text(errors[0]) if errors else None
    text = recording.body.decode()
    if text.startswith("{"):
        told = json.loads(text)
        text = told.get("message") or told["error"]
    else:
        text = ""
    return failure_of_status(recording.status, text)


@pytest.mark.parametrize("name", recording_names())
def test_recorded_failure_has_its_kind(name: str) -> None:
    failure = recorded_failure(Recording.load(name))

    found = None if failure is None else (failure.kind, failure.http_status)
    assert found == RECORDED.get(name)


def test_unknown_flow_is_named() -> None:
    missing = unknown_flow("Error: Chatflow abc-1 not found in the database!")

    assert missing is not None
    assert "abc-1" in str(missing)
    assert unknown_flow("Credential abc-1 not found") is None


@pytest.mark.parametrize("status", [429, 502, 503, 521, 530, 599])
def test_wait_that_was_asked_for_is_kept(status: int) -> None:
    wait = timedelta(seconds=7)

    assert failure_of_status(status, "", retry_after=wait).retry_after == wait


@pytest.mark.parametrize("status", [400, 500])
def test_wait_is_not_kept_where_nobody_waits(status: int) -> None:
    assert failure_of_status(status, "", retry_after=timedelta(7)).retry_after is None


def test_redirect_names_the_host_and_no_more() -> None:
    failure = failure_of_status(302, SECRET, location_host="other.example")

    assert "other.example" in str(failure)
    assert SECRET not in str(failure)


def test_what_the_endpoint_says_is_quoted_short_and_on_one_line() -> None:
    message = str(failure_of_text("a\n\n  b\t" + "x" * 5000))

    assert "a b x" in message
    assert len(message) < 1100


@MODERATE
@given(st.text())
def test_any_text_is_some_failure(text: str) -> None:
    assert failure_of_text(text).kind in FailureKind


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("0", timedelta()),
        ("1", timedelta(seconds=1)),
        (" 120 ", timedelta(seconds=120)),
        ("86400", DAY),
        ("86401", DAY),
        ("9" * 400, DAY),
        ("Sun, 22 Nov 2026 12:00:30 GMT", timedelta(seconds=30)),
        ("Sunday, 22-Nov-26 12:00:30 GMT", timedelta(seconds=30)),
        ("Sun Nov 22 12:00:30 2026", timedelta(seconds=30)),
        ("Sun, 22 Nov 2026 12:00:30 -0000", timedelta(seconds=30)),
        ("Sun, 22 Nov 2026 14:00:30 +0200", timedelta(seconds=30)),
        ("Sun, 22 Nov 2026 11:00:00 GMT", timedelta()),
        ("Mon, 01 Jan 0001 00:00:00 +2359", timedelta()),
        ("Fri, 31 Dec 9999 23:59:59 GMT", DAY),
        (None, None),
        ("", None),
        ("   ", None),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
        ("Sun, 99 Nov 2026 12:00:30 GMT", None),
        ("Sun, 22 Nov 2026 12:00:30 +999999", None),
        ("Sun, 22 Nov 99999999999999999999 12:00:30 GMT", None),
    ],
)
def test_retry_after_is_read(value: str | None, wait: timedelta | None) -> None:
    assert read_retry_after(value, NOW) == wait


@MODERATE
@given(seconds=st.integers(0, 86_400), hours=st.integers(-12, 12))
def test_retry_after_may_be_a_date_in_any_zone(seconds: int, hours: int) -> None:
    wait = timedelta(seconds=seconds)
    zone = timezone(timedelta(hours=hours))

    assert read_retry_after(format_datetime((NOW + wait).astimezone(zone)), NOW) == wait


@MODERATE
@given(st.text() | st.text("0123456789 :,-+GMTSunNov.", max_size=40))
def test_any_retry_after_is_a_wait_within_a_day_or_none(value: str) -> None:
    wait = read_retry_after(value, NOW)

    assert wait is None or timedelta() <= wait <= DAY
