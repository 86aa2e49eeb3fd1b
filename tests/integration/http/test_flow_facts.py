import pytest

from aimicromind_testing import Script, ScriptedEndpoint, answer, status_answer, whole_answer
from aimicromind_worker.core.endpoint.errors import ChatflowNotFound, EndpointUnavailable
from aimicromind_worker.core.endpoint.exchange import FlowFacts
from aimicromind_worker.http import flow_facts
from aimicromind_worker.http.client import EndpointClient
from tests.integration.calls import an_endpoint
from tests.support.http import raw_server

pytestmark = pytest.mark.usefixtures("no_certificates")


async def test_flow_is_asked_once_whether_it_streams(endpoint: ScriptedEndpoint) -> None:
    endpoint.flow("streams", answer())
    endpoint.flow("does-not", whole_answer(""), streaming=False)

    async with EndpointClient.open(an_endpoint(endpoint.url)) as predictions:
        first = [(await predictions.facts(flow)).streams for flow in ("streams", "does-not")]
        second = [(await predictions.facts(flow)).streams for flow in ("streams", "does-not")]

    assert first == second == [True, False]
    assert sorted(it.path for it in endpoint.other_requests) == [
        "/api/v1/chatflows-streaming/does-not",
        "/api/v1/chatflows-streaming/streams",
        "/api/v1/chatflows-uploads/does-not",
        "/api/v1/chatflows-uploads/streams",
    ]


async def test_unknown_flow_is_told_without_a_prediction(endpoint: ScriptedEndpoint) -> None:
    async with EndpointClient.open(an_endpoint(endpoint.url)) as predictions:
        with pytest.raises(ChatflowNotFound, match="no flow missing"):
            await predictions.facts("missing")

    assert endpoint.calls == []


async def test_endpoint_that_does_not_know_the_question_is_asked_again_next_time(
    endpoint: ScriptedEndpoint,
) -> None:
    endpoint.flow("flow", streaming=None)

    async with EndpointClient.open(an_endpoint(endpoint.url)) as predictions:
        before = await predictions.facts("flow")
        endpoint.flow("flow", streaming=True)
        after = await predictions.facts("flow")

    assert (before.streams, after.streams) == (None, True)


@pytest.mark.parametrize(
    "said",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\nnull",
        b"HTTP/1.1 200 OK\r\nContent-Length: 23\r\n\r\n<html>no, a page</html>\n",
        b'HTTP/1.1 200 OK\r\nContent-Length: 21\r\n\r\n{"isStreaming":"yes"}',
        b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"",
    ],
)
async def test_question_that_fails_is_gone_on_without(said: bytes) -> None:
    async with (
        raw_server(said, close=True) as server,
        EndpointClient.open(an_endpoint(f"http://127.0.0.1:{server.port}")) as predictions,
    ):
        assert await predictions.facts("flow") == FlowFacts(streams=None)


async def test_question_to_nobody_is_gone_on_without() -> None:
    async with EndpointClient.open(an_endpoint("http://127.0.0.1:1")) as predictions:
        assert await predictions.facts("flow") == FlowFacts(streams=None)


@pytest.mark.parametrize("says", [status_answer(429), status_answer(500), status_answer(503)])
async def test_flow_that_needs_the_chat_id_needs_it_until_the_endpoint_says_otherwise(
    endpoint: ScriptedEndpoint, monkeypatch: pytest.MonkeyPatch, says: Script
) -> None:
    monkeypatch.setattr(flow_facts, "_FACTS_LAST_S", 0.0)
    kinds = []

    async with EndpointClient.open(an_endpoint(endpoint.url)) as predictions:
        for documents in (True, says, False):
            endpoint.flow("flow", own_documents=documents)
            kinds.append((await predictions.facts("flow")).own_documents)

    assert kinds == [True, True, False]


@pytest.mark.parametrize("status", [429, 503])
async def test_flow_is_of_no_kind_while_the_endpoint_is_too_busy_to_tell(
    endpoint: ScriptedEndpoint, status: int
) -> None:
    async with EndpointClient.open(an_endpoint(endpoint.url)) as predictions:
        endpoint.flow("flow", own_documents=status_answer(status))
        with pytest.raises(EndpointUnavailable):
            await predictions.facts("flow")

        endpoint.flow("flow", own_documents=True)
        assert (await predictions.facts("flow")).own_documents
