"""The table of failures matches words and real shapes, and never a fragment of a sentence."""

import time
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import FailureKind
from aimicromind_worker.core.endpoint.call_failed import Lasting
from aimicromind_worker.core.endpoint.errors import EndpointError, EndpointUnavailable, RateLimited
from aimicromind_worker.core.endpoint.failure_table import TABLE
from aimicromind_worker.core.endpoint.failures import error_text, failure_of_status, failure_of_text
from tests.support.builders import MODERATE

BEFORE = (
    "",
    "Error: predictionsServices.buildChatflow - ",
    "Error in LLM node: ",
    "Error: Error: ",
)
EXAMPLES = [(row.meaning, example) for row in TABLE for example in row.examples]


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize(("meaning", "example"), EXAMPLES)
def test_each_example_has_the_meaning_of_its_row(
    before: str, meaning: type[Exception], example: str
) -> None:
    assert type(failure_of_text(before + example.replace("…", "something"))) is meaning


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize(
    "text",
    [
        "Unclosed quotation mark after the character string",
        "I found 401 results",
        "401 results were found",
        "room 503",
        "Room: 503",
        "503 rooms are free",
        "costs 429 USD",
        "429 USD is too much",
        "Price: 429 USD",
        "page 400 of 503",
        "order 14290 and room 4010",
        "zip code 40312",
        "code 401 building",
        "status codes: 401 documents",
        "error 401 results",
        "401(k) plans are popular",
        "the corporate limits apply",
        "No overload matches this call",
        "the operator is overloaded for strings",
        "current transaction is aborted, commands ignored until end of transaction block",
        "unreachable code after return statement",
        "She was forbidden to go",
        "The contract was terminated by the customer",
        "econometrics and reconnection errors",
        "The rate limitation of enzymes",
        "A quotation of 400 words",
        "Unauthorized use of this text is prohibited",
        "Request failed with status code 500",
        "HTTP 500",
        "500 Internal Server Error",
        "Cannot read properties of undefined (reading 'x')",
        "",
    ],
)
def test_ordinary_words_and_numbers_mean_nothing(before: str, text: str) -> None:
    failure = failure_of_text(before + text)

    assert type(failure) is EndpointError
    assert failure.retry_after is None


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("401", "unauthorized"),
        ("got status 401", "unauthorized"),
        ("http status code 401", "unauthorized"),
        ("Error code: 401 - {'error': {}}", "unauthorized"),
        ('401 {"type":"error"}', "unauthorized"),
        ("429 status code (no body)", "rate_limited"),
        ("Error code: 429 - {}", "rate_limited"),
        ("HTTP error! status: 429", "rate_limited"),
        ("Status code: 429. Slow down", "rate_limited"),
        ("Error buildAgentGraph - 429 Rate limit reached", "rate_limited"),
        ("HTTP/1.1 503 Service Unavailable", "endpoint_unavailable"),
        ("(503) Service Unavailable", "endpoint_unavailable"),
        ('{"error":{"code":503,"message":"x"}}', "endpoint_unavailable"),
        ("AxiosError: Request failed with status code 503", "endpoint_unavailable"),
        ("error 503", "endpoint_unavailable"),
        ("504 Gateway Time-out", "endpoint_unavailable"),
        ("upstream answered: response code 521", "endpoint_unavailable"),
        ("request to http://x/ failed, reason: connect ECONNREFUSED 1", "endpoint_unavailable"),
        (
            "[GoogleGenerativeAI Error]: Error fetching from https://g: [503 Service Unavailable]",
            "endpoint_unavailable",
        ),
        ("Error in Agent node: 400 Invalid schema for function", "bad_request"),
        ("HTTP 404", "bad_request"),
    ],
)
def test_status_counts_where_it_is_named_or_begins_the_message(text: str, kind: str) -> None:
    assert failure_of_text(text).kind == kind


@pytest.mark.parametrize(
    ("text", "wait_s"),
    [
        ("Please try again in 8s", 8),
        ("Please try again in 8 s. Visit https://example.org", 8),
        ("Please try again in 1m3.5s.", 63.5),
        ("Please try again in 6m0s", 360),
        ("Please try again in 2h3m", 7380),
        ("Please try again in 350ms", 0.35),
        ("try your request again in 1 minute and 30 seconds", 90),
        ("Please retry after 20 seconds.", 20),
        ("You can retry your request after 20 seconds", 20),
        ("Please retry in 34.4s.", 34.4),
        ('"retryDelay": "34s"', 34),
        ("Your quota will reset after 5 min", 300),
        ("please wait 30 seconds", 30),
        ("Retry-After: 7", 7),
        ("retry_after=7", 7),
        ("try again in 99999999d", 86_400),
        ("Please try again later", None),
        ("Please try again in 0s", None),
        ("try again in 20 stones", None),
        ("retry 3 times", None),
        ("retry after 20/30", None),
        ("wait for 3 months", None),
    ],
)
def test_wait_that_a_text_names_is_asked_for(text: str, wait_s: float | None) -> None:
    wait = None if wait_s is None else timedelta(seconds=wait_s)

    assert failure_of_text(f"429 Rate limit reached. {text}").retry_after == wait
    assert failure_of_text(f"503 Overloaded: {text}").retry_after == wait
    assert failure_of_text(f"Nobody knows this. {text}").retry_after == wait
    assert failure_of_status(429, text).retry_after == wait
    assert failure_of_status(500, f"429 Rate limit reached. {text}").retry_after == wait


def test_header_goes_before_the_text() -> None:
    failure = failure_of_status(429, "try again in 8s", retry_after=timedelta(seconds=3))

    assert failure.retry_after == timedelta(seconds=3)


def test_nobody_waits_for_what_lasts() -> None:
    failure = failure_of_text("401 Unauthorized, try again in 8s")

    assert isinstance(failure, Lasting)
    assert failure.retry_after is None


@pytest.mark.parametrize("status", [502, 503, 504, *range(520, 528), 530, 598, 599])
def test_gateway_speaks_for_the_server(status: int) -> None:
    failure = failure_of_status(status, "whatever")

    assert isinstance(failure, EndpointUnavailable)
    assert failure.speaks_for_server


@pytest.mark.parametrize("text", ["503 Service Unavailable", "fetch failed", "Overloaded", "x", ""])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 425, 429, 500, 501])
def test_error_of_the_server_itself_speaks_for_no_other_flow(status: int, text: str) -> None:
    assert not failure_of_status(status, text).speaks_for_server
    assert not failure_of_text(text).speaks_for_server


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"message":"a"}', "a"),
        (b'{"error":"b"}', "b"),
        (b'{"message":"a","error":"b"}', "a"),
        (b'{"message":"","error":"b"}', "b"),
        (b'{"message":7,"error":{"message":"c","type":"x"}}', "c"),
        (b'{"message":["a"],"error":{"message":1}}', ""),
        (b'{"detail":"d"}', ""),
        (b'["message"]', ""),
        (b"not json", ""),
        (b'{"message":"\xff"}', ""),
    ],
)
def test_only_the_message_of_an_error_is_read(body: bytes, text: str) -> None:
    assert error_text(body) == text


def test_words_are_ours_alone() -> None:
    failure = RateLimited("s3cr3t")

    assert str(failure) == "too many requests: s3cr3t"
    assert failure.words == "too many requests"
    assert "s3cr3t" not in failure_of_status(503, "s3cr3t").words


PIECES = st.sampled_from(
    [
        *("error", "Error in a node", "a.b", " - ", ": ", "401", "HTTP ", "try", " in ", "8s"),
        *(" ", "x", "[", "quota exceeded ", "fetching from ", "output of ", "must be", "\n"),
        *("wait for ", '"code":'),
    ]
)


@MODERATE
@given(st.lists(PIECES, max_size=8), st.integers(1, 200))
def test_no_text_takes_long(pieces: list[str], times: int) -> None:
    began = time.process_time()

    assert failure_of_text("".join(pieces) * times).kind in FailureKind
    assert time.process_time() - began < 0.5
