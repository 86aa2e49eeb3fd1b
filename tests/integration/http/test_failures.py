from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Final

import pytest

from aimicromind_schemas import FailureKind
from aimicromind_testing import (
    Cut,
    Head,
    Reset,
    Script,
    ScriptedEndpoint,
    Send,
    answer,
    json_error,
    play,
    status_answer,
    too_many_requests,
)
from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.endpoint.errors import (
    BadRequest,
    EndpointError,
    EndpointUnavailable,
    Forbidden,
    Misconfigured,
    RateLimited,
    RedirectRefused,
    RequestTooLarge,
    StreamCut,
    Unauthorized,
)
from aimicromind_worker.core.endpoint.exchange import EventStream, FlowFacts
from aimicromind_worker.http.client import EndpointClient
from tests.integration.calls import KEY, an_endpoint, call_once, calling, failure_of, taken_by
from tests.support.http import JSON_ANSWER, raw_server

pytestmark = pytest.mark.usefixtures("no_certificates")

EMOJI: Final = 'data:{"event":"token","data":"😀"}\n\n'.encode()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequest),
        (401, Unauthorized),
        (403, Forbidden),
        (404, Misconfigured),
        (405, BadRequest),
        (408, EndpointUnavailable),
        (413, RequestTooLarge),
        (422, BadRequest),
        (429, RateLimited),
        (500, EndpointError),
        (501, EndpointError),
        (502, EndpointUnavailable),
        (503, EndpointUnavailable),
        (504, EndpointUnavailable),
        (520, EndpointUnavailable),
        (521, EndpointUnavailable),
        (524, EndpointUnavailable),
        (530, EndpointUnavailable),
        (599, EndpointUnavailable),
    ],
)
async def test_status_decides_what_failed(
    endpoint: ScriptedEndpoint, status: int, kind: type[CallFailed]
) -> None:
    endpoint.flow("flow", json_error(status, "the reason why"))

    failure = await failure_of(endpoint)

    assert type(failure) is kind
    assert failure.http_status == status
    assert failure.request_sent


@pytest.mark.parametrize("status", [503, 521, 530])
@pytest.mark.parametrize("in_what", ["page", "JSON"])
async def test_gateway_whose_server_is_away_asks_to_wait(
    endpoint: ScriptedEndpoint, status: int, in_what: str
) -> None:
    body, content_type = b'{"message":"away"}', "application/json"
    if in_what == "page":
        body, content_type = b"<html>away</html>", "text/html"
    headers = [("Retry-After", "7")]
    endpoint.flow("flow", status_answer(status, body, content_type=content_type, headers=headers))

    failure = await failure_of(endpoint)

    assert type(failure) is EndpointUnavailable
    assert failure.speaks_for_server
    assert failure.retry_after == timedelta(seconds=7)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"s3cr3t", "text/plain"),
        (b"<p>s3cr3t</p>", "text/html"),
        (b"s3cr3t", "text/html; charset=utf-8"),
        (b'data:{"event":"token","data":"s3cr3t"}\n\n', "text/event-stream"),
        (b'{"message":"s3cr3t"}', "application/octet-stream"),
        (b'{"message":"s3cr3t"}', ""),
        (b'{"text":"s3cr3t"}', "application/json"),
        (b'"s3cr3t"', "application/json"),
        (b's3cr3t {"message":"x"}', "application/json"),
    ],
)
@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 503])
async def test_body_that_may_hold_an_answer_is_never_quoted(
    endpoint: ScriptedEndpoint, status: int, body: bytes, content_type: str
) -> None:
    endpoint.flow("flow", status_answer(status, body, content_type=content_type))

    failure = await failure_of(endpoint)

    assert failure.http_status == status
    assert "s3cr3t" not in str(failure)


async def test_endless_error_body_is_read_for_its_beginning_only(
    endpoint: ScriptedEndpoint,
) -> None:
    head = Head(500, (("Content-Type", "text/plain"), ("Connection", "close")))

    endless = Script(lambda _: (head, *[Send(b"x" * 65_536)] * 2000))
    endpoint.flow("flow", endless)

    failure = await failure_of(endpoint)

    assert len(str(failure)) < 2000
    await endpoint.until(lambda: endpoint.calls[0].client_gone)


@pytest.mark.parametrize("content_type", ["text/html; charset=utf-8", "text/plain", ""])
async def test_anything_but_a_stream_or_json_is_a_matter_of_configuration(
    endpoint: ScriptedEndpoint, content_type: str
) -> None:
    endpoint.flow("flow", status_answer(200, b"<html>", content_type=content_type))

    failure = await failure_of(endpoint)

    assert failure.kind == FailureKind.CONFIGURATION
    assert failure.http_status == 200
    assert "AIMICROMIND_PREDICTION_PATH" in str(failure)


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        (None, None),
        ("0", 0),
        ("7", 7),
        ("-1", None),
        ("soon", None),
        ("99999999999999999999", 86_400),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
    ],
)
async def test_retry_after_in_seconds_is_read(
    endpoint: ScriptedEndpoint, value: str | None, wait: int | None
) -> None:
    endpoint.flow("flow", too_many_requests(value))

    failure = await failure_of(endpoint)

    assert type(failure) is RateLimited
    assert failure.retry_after == (None if wait is None else timedelta(seconds=wait))


async def test_retry_after_as_a_date_is_read(endpoint: ScriptedEndpoint) -> None:
    date = format_datetime(datetime.now(UTC) + timedelta(minutes=2), usegmt=True)
    endpoint.flow("flow", status_answer(503, headers=[("Retry-After", date)]))

    failure = await failure_of(endpoint)

    assert failure.retry_after is not None
    assert timedelta(seconds=110) < failure.retry_after <= timedelta(seconds=120)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_redirect_to_another_host_is_refused_and_the_key_stays(
    endpoint: ScriptedEndpoint, status: int
) -> None:
    async with raw_server(JSON_ANSWER) as other:
        location = f"http://localhost:{other.port}/api/v1/prediction/flow"
        endpoint.flow("flow", status_answer(status, headers=[("Location", location)]))

        failure = await failure_of(endpoint)

        assert other.requests == []
    assert type(failure) is RedirectRefused
    assert failure.http_status == status
    assert "redirects to localhost" in str(failure)
    assert KEY not in str(failure)


@pytest.mark.parametrize("location", ["/elsewhere", "//[", None])
async def test_redirect_to_anywhere_else_is_refused_too(
    endpoint: ScriptedEndpoint, location: str | None
) -> None:
    headers = [] if location is None else [("Location", location)]
    endpoint.flow("flow", status_answer(302, headers=headers))

    failure = await failure_of(endpoint)

    assert type(failure) is RedirectRefused
    assert endpoint.other_requests == []


async def test_refused_connection_sent_nothing() -> None:
    failure = await failure_of("http://127.0.0.1:1")

    assert type(failure) is EndpointUnavailable
    assert not failure.request_sent
    assert "127.0.0.1:1" in str(failure)


@pytest.mark.parametrize("address", ["http://a\tb", "http://xn--zzzzzz", "http://[::1]x"])
async def test_address_that_is_none_is_a_matter_of_configuration(address: str) -> None:
    async with EndpointClient.open(an_endpoint(address)) as predictions:
        assert await predictions.facts("flow") == FlowFacts(streams=None)

    assert type(await failure_of(address)) is Misconfigured


async def test_unknown_host_sent_nothing() -> None:
    failure = await failure_of("http://no-such-host.invalid")

    assert type(failure) is EndpointUnavailable
    assert not failure.request_sent


async def test_connection_that_is_not_made_in_time_sent_nothing() -> None:
    # TEST-NET-1 of RFC 5737: nobody answers there.
    failure = await failure_of("http://192.0.2.1:9", connect_timeout=timedelta(milliseconds=100))

    assert type(failure) is EndpointUnavailable
    assert not failure.request_sent


@pytest.mark.parametrize("ending", [Cut(), Reset()])
async def test_connection_lost_before_the_headers_may_have_sent_the_request(
    endpoint: ScriptedEndpoint, ending: Cut | Reset
) -> None:
    endpoint.flow("flow", Script.of(ending))

    failure = await failure_of(endpoint)

    assert type(failure) is EndpointUnavailable
    assert failure.request_sent


@pytest.mark.parametrize(
    "said", [b"", b"HTTP/1.1 200", b"\x15\x03\x01\x00\x02\x02\x28", b"nonsense\r\n\r\n"]
)
async def test_answer_that_is_no_http_may_have_sent_the_request(said: bytes) -> None:
    async with raw_server(said, close=True) as server:
        failure = await failure_of(f"http://127.0.0.1:{server.port}")

    assert type(failure) is EndpointUnavailable
    assert failure.request_sent


@pytest.mark.parametrize("ending", [Cut(), Reset()])
@pytest.mark.parametrize(
    "sent",
    [0, 3, EMOJI.index("😀".encode()) + 2, len(EMOJI) - 1, len(EMOJI), 2 * len(EMOJI) - 5],
    ids=["after headers", "in a name", "in a character", "in an end", "after one", "in the next"],
)
async def test_cut_anywhere_in_the_stream_is_a_cut(
    endpoint: ScriptedEndpoint, sent: int, ending: Cut | Reset
) -> None:
    body = EMOJI * 2
    endpoint.flow("flow", Script.of(Head(), Send(body)).cut(ending, after_bytes=sent))

    received = bytearray()

    async def read() -> None:
        async with calling(endpoint) as response:
            assert isinstance(response, EventStream)
            assert not await response.body.pump(taken_by(received))

    with pytest.raises(StreamCut):
        await read()
    assert body[:sent].startswith(received)


async def test_stream_of_a_killed_server_is_a_cut(endpoint: ScriptedEndpoint) -> None:
    endpoint.flow("flow", play("server-sigkill", pace=0))

    assert type(await failure_of(endpoint)) is StreamCut


async def test_json_answer_that_breaks_off_is_a_cut(endpoint: ScriptedEndpoint) -> None:
    head = Head(200, (("Content-Type", "application/json"), ("Content-Length", "99")))
    endpoint.flow("flow", Script.of(head, Send(b'{"text":"ha'), Cut()))

    assert type(await failure_of(endpoint)) is StreamCut


async def test_stream_that_is_not_compressed_as_it_says_is_a_cut(
    endpoint: ScriptedEndpoint,
) -> None:
    headers = [("Content-Encoding", "gzip")]
    script = status_answer(200, b"no gzip", content_type="text/event-stream", headers=headers)
    endpoint.flow("flow", script)

    assert type(await failure_of(endpoint)) is StreamCut


async def test_next_call_works_after_any_cut(endpoint: ScriptedEndpoint) -> None:
    endpoint.flow("flow", answer(5).cut(after_sends=2), Script.of(Cut()), answer(1))

    failures = [await failure_of(endpoint) for _ in range(2)]

    assert await call_once(endpoint)
    assert [type(failure) for failure in failures] == [StreamCut, EndpointUnavailable]
