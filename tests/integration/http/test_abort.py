"""The endpoint is asked to stop what a call began; nobody waits for that."""

import asyncio
from time import monotonic

import pytest
from structlog.testing import capture_logs

from aimicromind_testing import Head, Script, ScriptedEndpoint, Stall, send
from aimicromind_worker.http.client import EndpointClient
from tests.integration.calls import KEY, a_call, an_endpoint
from tests.support.http import raw_server
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("no_certificates")

REFUSED = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"


async def test_abort_names_flow_and_chat_of_the_call_and_carries_the_key(
    endpoint: ScriptedEndpoint,
) -> None:
    async with EndpointClient.open(an_endpoint(endpoint.url)) as predictions:
        predictions.abort(a_call("flow", endpoint_chat_id="a/b ü"))
        await endpoint.until(lambda: endpoint.other_requests != [])

    (asked,) = endpoint.other_requests
    assert asked.method == "PUT"
    assert asked.path == "/api/v1/chatmessage/abort/flow/a%2Fb%20%C3%BC"
    assert asked.headers["authorization"] == f"Bearer {KEY}"


async def test_abort_stops_a_run_that_can_be_stopped(endpoint: ScriptedEndpoint) -> None:
    running = Script.of(Head(), send("token", "a"), Stall()).stopped_by_abort()
    endpoint.flow("flow", running)
    call = a_call("flow")

    async with (
        EndpointClient.open(an_endpoint(endpoint.url)) as predictions,
        predictions.call(call),
    ):
        predictions.abort(call)
        await endpoint.until(lambda: not endpoint.live_calls)

    assert endpoint.calls[0].aborted


@pytest.mark.parametrize("answer", [REFUSED, b"SSH-2.0-OpenSSH_9.2\r\n"])
async def test_failure_of_an_abort_is_nobodys(answer: bytes) -> None:
    with capture_logs() as logs:
        async with (
            raw_server(answer, close=True) as server,
            EndpointClient.open(an_endpoint(f"http://127.0.0.1:{server.port}")) as predictions,
        ):
            predictions.abort(a_call())
            await until(lambda: logs, 5)

    assert {line["log_level"] for line in logs} <= {"debug", "info"}


async def test_abort_that_nobody_answers_holds_up_nothing() -> None:
    async with raw_server(b"") as server:
        async with EndpointClient.open(
            an_endpoint(f"http://127.0.0.1:{server.port}")
        ) as predictions:
            began = monotonic()
            predictions.abort(a_call())
            aborted_s = monotonic() - began
            await asyncio.sleep(0.05)
        left_s = monotonic() - began

    assert aborted_s < 0.05
    assert left_s < 2
