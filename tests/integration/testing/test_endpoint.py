import asyncio
import json
from datetime import timedelta
from typing import Any

import aiohttp
import httpx
import pytest

from aimicromind_testing import (
    Recording,
    ScriptedEndpoint,
    answer,
    html_page,
    never_answers,
    too_many_requests,
    whole_answer,
)
from tests.integration.testing.chats import client_of

QUESTION = {"question": "why?", "streaming": True, "chatId": "chat"}


def frames(body: str) -> list[dict[str, Any]]:
    lines = body.split("\n")
    return [json.loads(line[len("data:") :]) for line in lines if line.startswith("data:")]


async def test_generated_answer_carries_the_metadata_of_its_call() -> None:
    async with ScriptedEndpoint() as endpoint, client_of(endpoint) as client:
        endpoint.flow("flow", answer(2))
        body = QUESTION | {"overrideConfig": {"sessionId": "session"}}

        first = frames((await client.post("/prediction/flow", json=body)).text)
        second = frames((await client.post("/prediction/flow", json=body)).text)

    assert [it["event"] for it in first] == ["start", "token", "token", "metadata", "end"]
    metadata = first[-2]["data"]
    assert metadata["chatId"] == "chat"
    assert metadata["sessionId"] == "session"
    assert metadata["question"] == "why?"
    assert metadata["chatMessageId"] != second[-2]["data"]["chatMessageId"]


async def test_scripts_are_played_one_call_after_the_other_and_the_last_repeats() -> None:
    async with ScriptedEndpoint() as endpoint, client_of(endpoint) as client:
        endpoint.flow("flow", too_many_requests("7"), html_page(503), answer(0))

        answers = [await client.post("/prediction/flow", json=QUESTION) for _ in range(4)]

    assert [it.status_code for it in answers] == [429, 503, 200, 200]
    assert answers[0].headers["retry-after"] == "7"
    assert answers[1].headers["content-type"].startswith("text/html")
    assert answers[3].headers["content-type"] == "text/event-stream"


async def test_flow_that_cannot_stream_answers_with_json() -> None:
    async with ScriptedEndpoint() as endpoint, client_of(endpoint) as client:
        endpoint.flow("flow", whole_answer("all of it", {"usedTools": []}))

        said = await client.post("/prediction/flow", json=QUESTION)

    recorded = json.loads(Recording.load("e-nostream").body)
    assert said.headers["content-type"] == "application/json; charset=utf-8"
    assert said.json().keys() == recorded.keys() - {"memoryType"} | {"usedTools"}
    assert said.json()["text"] == "all of it"


async def test_connection_is_kept_for_the_next_call() -> None:
    async with ScriptedEndpoint() as endpoint, client_of(endpoint) as client:
        endpoint.flow("flow", answer(), too_many_requests(), answer())

        ports = set()
        for _ in range(3):
            response = await client.post("/prediction/flow", json=QUESTION)
            stream = response.extensions["network_stream"]
            ports.add(stream.get_extra_info("client_addr"))

    assert len(ports) == 1


async def test_requests_sent_together_are_answered_in_order() -> None:
    body = b'{"question": "q", "streaming": true}'
    head = b"POST /api/v1/prediction/flow HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
    async with ScriptedEndpoint() as endpoint:
        endpoint.flow("flow", too_many_requests(), answer(0))
        reader, writer = await asyncio.open_connection(*endpoint.url[7:].split(":"))

        writer.write((head % len(body) + body) * 2)

        async with asyncio.timeout(20):
            received = await reader.readuntil(b"0\r\n\r\n")
        writer.close()
    assert received.index(b" 429 ") < received.index(b" 200 ")


async def test_request_whose_client_has_left_is_answered_to_nobody() -> None:
    body = b'{"question": "q", "streaming": true}'
    head = b"POST /api/v1/prediction/flow HTTP/1.1\r\nHost: h\r\nContent-Length: %d\r\n\r\n"
    async with ScriptedEndpoint() as endpoint:
        endpoint.flow("flow", never_answers())
        _, writer = await asyncio.open_connection(*endpoint.url[7:].split(":"))
        writer.write((head % len(body) + body) * 2)
        await endpoint.called(1)

        writer.close()

        await endpoint.called(2)
        await endpoint.until(lambda: not endpoint.live_calls)
        assert all(call.client_gone for call in endpoint.calls)


async def test_abort_stops_a_run_that_can_be_stopped() -> None:
    async with ScriptedEndpoint() as endpoint, client_of(endpoint) as client:
        endpoint.flow("flow", answer(1_000, rate=50).stopped_by_abort())
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(client.post("/prediction/flow", json=QUESTION))
            await endpoint.until(lambda: any(call.bytes_sent for call in endpoint.calls))

            said = await client.put("/chatmessage/abort/flow/chat")

        assert endpoint.calls[0].aborted
        assert [request.path for request in endpoint.other_requests] == [
            "/api/v1/chatmessage/abort/flow/chat"
        ]
    assert said.status_code == 200
    assert frames(asked.result().text)[-2:] == Recording.load("abort-d-agentflow-llm").frames()[-2:]


@pytest.mark.parametrize("path", ["flow/other-chat", "other-flow/chat", "flow/chat"])
async def test_abort_leaves_all_other_runs_alone(path: str) -> None:
    can_stop = answer(10, rate=50).stopped_by_abort()
    async with ScriptedEndpoint() as endpoint, client_of(endpoint) as client:
        endpoint.flow("flow", answer(10, rate=50) if path == "flow/chat" else can_stop)
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(client.post("/prediction/flow", json=QUESTION))
            await endpoint.called(1)

            said = await client.put(f"/chatmessage/abort/{path}")

    assert said.status_code == 200
    assert [it["event"] for it in frames(asked.result().text)].count("token") == 10


async def test_calls_are_recorded() -> None:
    body = {"question": "q", "streaming": True, "overrideConfig": {"sessionId": "session"}}
    async with ScriptedEndpoint() as endpoint, aiohttp.ClientSession() as client:
        endpoint.flow("flow", answer(1))

        url = f"{endpoint.url}/api/v1/prediction/flow"
        async with client.post(url, json=body, headers={"X-Trace": "7"}) as response:
            received = await response.read()
        (call,) = await endpoint.called(1)
        await endpoint.until(lambda: not endpoint.live_calls)

    assert call.flow == "flow"
    assert call.json == body
    assert call.headers["x-trace"] == "7"
    assert call.chat_id == call.session_id == "session"
    assert call.started < (call.ended or 0)
    assert call.bytes_sent == len(received)
    assert not call.live
    assert not call.client_gone


async def test_call_without_any_chat_gets_one() -> None:
    async with ScriptedEndpoint() as endpoint, client_of(endpoint) as client:
        endpoint.flow("flow", answer(0))

        said = await client.post("/prediction/flow", json={"question": "q", "streaming": True})

        assert frames(said.text)[-2]["data"]["chatId"] == endpoint.calls[0].chat_id != ""


async def test_client_that_goes_away_is_seen() -> None:
    async with ScriptedEndpoint() as endpoint, client_of(endpoint) as client:
        endpoint.flow("flow", answer(1_000, rate=50))

        async with client.stream("POST", "/prediction/flow", json=QUESTION):
            (call,) = await endpoint.called(1)
            assert endpoint.live_calls == [call]

        await endpoint.until(lambda: not endpoint.live_calls)
        assert call.client_gone


async def test_calls_that_never_come_are_not_waited_for() -> None:
    async with ScriptedEndpoint() as endpoint:
        with pytest.raises(TimeoutError):
            await endpoint.called(1, within=timedelta(milliseconds=50))


async def test_endpoint_ends_with_answers_under_way_and_comes_back_on_its_port() -> None:
    first = ScriptedEndpoint()
    first.flow("flow", never_answers())
    async with asyncio.timeout(20), httpx.AsyncClient() as client, asyncio.TaskGroup() as tasks:
        async with first:
            tasks.create_task(expect_broken(client, f"{first.url}/api/v1/prediction/flow"))
            await first.called(1)

        async with ScriptedEndpoint(port=int(first.url.rsplit(":", 1)[1])) as second:
            assert second.url == first.url


async def expect_broken(client: httpx.AsyncClient, url: str) -> None:
    with pytest.raises(httpx.TransportError):
        await client.post(url, json=QUESTION)
