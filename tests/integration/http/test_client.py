import asyncio
import json
import logging
import socket
from contextlib import ExitStack
from datetime import timedelta

import pytest

from aimicromind_testing import (
    ScriptedEndpoint,
    answer,
    json_answer,
    json_error,
    never_answers,
    status_answer,
    whole_answer,
)
from aimicromind_worker.core.endpoint.errors import AnswerTooLarge, HeadersOverdue
from aimicromind_worker.core.endpoint.exchange import EventStream, PredictionCall
from aimicromind_worker.http.client import EndpointClient
from tests.integration.calls import (
    KEY,
    QUESTION,
    a_call,
    an_endpoint,
    body_of,
    call_once,
    calling,
    taken_by,
)
from tests.support.http import open_connections, raw_server

pytestmark = pytest.mark.usefixtures("no_certificates")

TRACE = {
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "tracestate": "vendor=1",
}


@pytest.mark.parametrize("content_type", ["text/event-stream; charset=utf-8", "Text/Event-Stream"])
async def test_parameters_and_case_of_the_content_type_do_not_matter(
    endpoint: ScriptedEndpoint, content_type: str
) -> None:
    endpoint.flow("flow", status_answer(200, b":hi\n\n", content_type=content_type))

    async with calling(endpoint) as response:
        assert isinstance(response, EventStream)
        assert await body_of(response) == b":hi\n\n"


async def test_json_answer_over_the_limit_is_too_large(endpoint: ScriptedEndpoint) -> None:
    endpoint.flow("flow", whole_answer("x" * 5000))

    with pytest.raises(AnswerTooLarge, match="4096 bytes"):
        await call_once(endpoint, max_answer_bytes=4096)


async def test_request_is_made_as_the_job_says(endpoint: ScriptedEndpoint) -> None:
    endpoint.flow("flow", answer(1))
    call = a_call(trace=TRACE)

    async with calling(endpoint, call) as response:
        await body_of(response)

    [seen] = endpoint.calls
    assert seen.json == json.loads(b"".join(call.body))
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["accept-encoding"] == "identity"
    assert {name: seen.headers[name] for name in TRACE} == TRACE


async def test_without_a_key_no_authorization_is_sent(endpoint: ScriptedEndpoint) -> None:
    endpoint.flow("flow", answer(1))

    await call_once(endpoint, api_key=lambda: None)

    assert "authorization" not in endpoint.calls[0].headers


async def test_path_is_the_one_that_was_set() -> None:
    page = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    async with raw_server(page) as server:
        where = f"http://127.0.0.1:{server.port}/base"
        await call_once(where, prediction_path="/my/{chatflowId}/run")

    assert server.requests[0].startswith(b"POST /base/my/flow/run HTTP/1.1\r\n")


async def test_proxies_and_netrc_of_the_machine_are_not_used(
    endpoint: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    endpoint.flow("flow", answer(1))

    assert await call_once(endpoint)


async def test_key_and_question_are_in_no_log_and_no_repr(
    endpoint: ScriptedEndpoint,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    endpoint.flow("flow", answer(3, token=lambda _: "s3cr3t token"), json_error(500, "no"))

    await call_once(endpoint)
    with pytest.raises(Exception, match="no") as failed:
        await call_once(endpoint)

    shown = [repr(an_endpoint(endpoint.url)), repr(a_call()), repr(failed.value), caplog.text]
    assert "s3cr3t" not in "".join([*shown, *capsys.readouterr()])
    assert QUESTION not in str(failed.value)


async def test_flow_that_streams_is_held_to_the_first_byte_timeout(
    endpoint: ScriptedEndpoint,
) -> None:
    endpoint.flow("flow", never_answers())

    with pytest.raises(HeadersOverdue, match=r"within 0\.2 s") as overdue:
        await call_once(endpoint, first_byte_timeout=timedelta(seconds=0.2))

    assert overdue.value.request_sent
    await endpoint.until(lambda: endpoint.calls[0].client_gone)


async def test_flow_that_cannot_stream_is_not_held_to_it(endpoint: ScriptedEndpoint) -> None:
    endpoint.flow("flow", whole_answer("late").delayed(0.4))

    call = a_call(streams=False)
    async with calling(endpoint, call, first_byte_timeout=timedelta(seconds=0.1)) as response:
        assert b"late" in await body_of(response)


async def test_first_byte_timeout_does_not_hold_the_stream_itself(
    endpoint: ScriptedEndpoint,
) -> None:
    endpoint.flow("flow", answer(4, rate=10))

    body = await call_once(endpoint, first_byte_timeout=timedelta(seconds=0.2))

    assert body.endswith(b'"[DONE]"}\n\n')


async def test_calls_left_in_mid_stream_keep_no_connection(endpoint: ScriptedEndpoint) -> None:
    endpoint.flow("flow", answer(1_000_000, rate=1000))

    async with EndpointClient.open(an_endpoint(endpoint.url)) as predictions:
        for _ in range(5):
            async with predictions.call(a_call()) as response:
                assert isinstance(response, EventStream)
                assert await response.body.pump(taken_by(bytearray(), once=True))
        await endpoint.until(lambda: not endpoint.live_calls)

        assert all(call.client_gone for call in endpoint.calls)
        assert open_connections(_port(endpoint)) == 0


async def test_calls_that_failed_keep_no_connection_beyond_one(endpoint: ScriptedEndpoint) -> None:
    endpoint.flow("flow", json_answer(500, {"message": "x" * 100_000}))

    async with EndpointClient.open(an_endpoint(endpoint.url)) as predictions:
        for _ in range(5):
            with pytest.raises(Exception, match="HTTP 500"):
                async with predictions.call(a_call()):
                    pass

        assert open_connections(_port(endpoint)) <= 1


async def test_many_calls_run_at_once(endpoint: ScriptedEndpoint) -> None:
    count = 150
    endpoint.flow("flow", answer(1).delayed(60))

    async with EndpointClient.open(an_endpoint(endpoint.url)) as predictions:

        async def one() -> None:
            async with predictions.call(a_call()):
                pass

        calling = [asyncio.create_task(one()) for _ in range(count)]
        await endpoint.until(lambda: len(endpoint.live_calls) == count)
        for call in calling:
            call.cancel()
        await asyncio.wait(calling)


def _port(endpoint: ScriptedEndpoint) -> int:
    return int(endpoint.url.rpartition(":")[2])


async def test_call_is_begun_once_there_is_a_connection(endpoint: ScriptedEndpoint) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server, ExitStack() as waiting:
        port = server.getsockname()[1]
        # With these the queue is full, and the system answers no other.
        for _ in range(2):
            waiting.enter_context(_connecting(port))
        call = a_call()
        calling_it = asyncio.create_task(call_it(call, port))
        await asyncio.sleep(0.2)
        assert not call.sending.begun
        calling_it.cancel()
        await asyncio.wait((calling_it,))
        assert not call.sending.begun

    endpoint.flow("flow", never_answers())
    call = a_call()
    calling_it = asyncio.create_task(call_it(call, int(endpoint.url.rpartition(":")[2])))
    await endpoint.called(1)
    assert call.sending.begun
    calling_it.cancel()
    await asyncio.wait((calling_it,))


async def call_it(call: PredictionCall, port: int) -> None:
    async with calling(f"http://127.0.0.1:{port}", call):
        pass


def _connecting(port: int) -> socket.socket:
    connecting = socket.socket()
    connecting.settimeout(0)
    connecting.connect_ex(("127.0.0.1", port))
    return connecting
