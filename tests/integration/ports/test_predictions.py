"""Calls come to the same at the fake of the endpoint's port, and over HTTP."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from aimicromind_testing import Cut, Head, Script, ScriptedEndpoint, Send, Stall, json_error
from aimicromind_testing import status_answer as answers
from aimicromind_worker.core.endpoint import errors
from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.endpoint.exchange import EventStream, WholeAnswer
from aimicromind_worker.http.client import EndpointClient
from aimicromind_worker.runs.dependencies import Predictions
from tests.integration.calls import a_call, an_endpoint, body_of, taken_by
from tests.support.amqp import WITHIN_S
from tests.support.builders import tokens
from tests.support.fakes import CUT, HANG, ScriptedPredictions
from tests.support.fakes import Script as FakeScript
from tests.support.waiting import until

pytestmark = pytest.mark.usefixtures("no_certificates")

SAID, JSON = tokens("a"), b'{"text":"a"}'
REAL = {
    "stream": answers(200, SAID, content_type="text/event-stream"),
    "json": answers(200, JSON, content_type="application/json"),
    "refused": json_error(401, "no"),
    "cut": Script.of(Head(), Send(SAID), Cut()),
    "hangs": Script.of(Head(), Send(SAID), Stall()),
}
FAKE: dict[str, FakeScript] = {
    "stream": [SAID],
    "json": WholeAnswer(JSON),
    "refused": errors.Unauthorized("no", http_status=401),
    "cut": [SAID, CUT],
    "hangs": [SAID, HANG],
    "away": errors.EndpointUnavailable("refused", request_sent=False),
}


@dataclass
class Calls:
    """An endpoint that answers in one way.

    Attributes:
        open: Counts the calls that it has before it.
    """

    predictions: Predictions
    open: Callable[[], int]


@asynccontextmanager
async def fake(way: str) -> AsyncIterator[Calls]:
    predictions = ScriptedPredictions(FAKE[way])
    predictions.connects = way != "away"
    yield Calls(predictions, lambda: predictions.open_calls)


@asynccontextmanager
async def real(way: str) -> AsyncIterator[Calls]:
    async with ScriptedEndpoint() as endpoint:
        if way != "away":
            endpoint.flow("flow", REAL[way])
        url = "http://127.0.0.1:1" if way == "away" else endpoint.url
        async with EndpointClient.open(an_endpoint(url)) as predictions:
            yield Calls(predictions, lambda: len(endpoint.live_calls))


@pytest_asyncio.fixture(params=[fake, real], ids=["fake", "real"])
async def calls(request: pytest.FixtureRequest, way: str) -> AsyncIterator[Calls]:
    async with request.param(way) as ready:
        yield ready


@pytest.mark.parametrize(("way", "kind"), [("stream", EventStream), ("json", WholeAnswer)])
async def test_answer_comes_whole(calls: Calls, kind: type) -> None:
    call = a_call()

    async with calls.predictions.call(call) as response:
        body = await body_of(response)

    assert isinstance(response, kind)
    assert body == (SAID if kind is EventStream else JSON)
    assert call.sending.begun


@pytest.mark.parametrize(
    ("way", "failure"),
    [
        ("refused", errors.Unauthorized),
        ("cut", errors.StreamCut),
        ("away", errors.EndpointUnavailable),
    ],
)
async def test_failure_is_raised_and_says_whether_the_endpoint_was_asked(
    calls: Calls, way: str, failure: type[CallFailed]
) -> None:
    call = a_call()

    with pytest.raises(failure) as failed:
        async with calls.predictions.call(call) as response:
            await body_of(response)

    assert call.sending.begun == failed.value.request_sent == (way != "away")


@pytest.mark.parametrize("way", ["hangs"])
async def test_call_that_is_left_is_open_no_more(calls: Calls) -> None:
    async with calls.predictions.call(a_call()) as response:
        assert isinstance(response, EventStream)
        received = bytearray()
        assert await response.body.pump(taken_by(received, once=True))
        assert (bytes(received), calls.open()) == (SAID, 1)

    await until(lambda: not calls.open())


@pytest.mark.parametrize("way", ["hangs"])
async def test_abort_is_done_in_time(calls: Calls) -> None:
    await asyncio.wait_for(calls.predictions.abort(a_call()), WITHIN_S)
