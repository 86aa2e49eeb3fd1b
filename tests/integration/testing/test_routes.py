import asyncio
import json

import httpx
import pytest

from aimicromind_testing import Recording, ScriptedEndpoint, answer
from tests.integration.testing.chats import SOON_SILENT, client_of

QUESTION = {"question": "why?", "streaming": True, "chatId": "chat"}


async def test_unknown_flow_never_answers_a_streaming_call() -> None:
    async with ScriptedEndpoint() as endpoint, client_of(endpoint) as client:
        with pytest.raises(httpx.ReadTimeout):
            await client.post("/prediction/nowhere", json=QUESTION, timeout=SOON_SILENT)

        await endpoint.until(lambda: not endpoint.live_calls)
        assert endpoint.calls[0].client_gone


async def test_unknown_flow_is_told_to_a_call_that_does_not_stream() -> None:
    async with ScriptedEndpoint() as endpoint, client_of(endpoint) as client:
        said = await client.post("/prediction/nowhere", json={"question": "q"})

    assert said.status_code == 404
    assert said.json().keys() == json.loads(Recording.load("err-unknown-id-json").body).keys()


async def test_flow_says_whether_it_streams() -> None:
    async with ScriptedEndpoint() as endpoint, client_of(endpoint) as client:
        endpoint.flow("streams")
        endpoint.flow("does-not", streaming=False)
        endpoint.flow("unasked", streaming=None)

        said = [
            await client.get(f"/chatflows-streaming/{flow}")
            for flow in ("streams", "does-not", "unasked", "nowhere")
        ]

        assert endpoint.other_requests[0].path == "/api/v1/chatflows-streaming/streams"
    assert [it.status_code for it in said] == [200, 200, 404, 500]
    assert [it.json() for it in said[:2]] == [{"isStreaming": True}, {"isStreaming": False}]
    assert said[3].json()["message"].endswith("Chatflow nowhere not found")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
async def test_wrong_key_is_told_in_the_stream(headers: dict[str, str]) -> None:
    async with (
        ScriptedEndpoint(api_key="right") as endpoint,
        client_of(endpoint, headers=headers) as client,
    ):
        endpoint.flow("flow")

        streamed = await client.post("/prediction/flow", json=QUESTION)
        whole = await client.post("/prediction/flow", json={"question": "q"})

    assert streamed.status_code == 200
    assert streamed.content == Recording.load("err-key-missing-stream").body
    assert whole.status_code == 500
    assert whole.content == Recording.load("err-key-missing-json").body


async def test_right_key_is_served() -> None:
    key = {"Authorization": "Bearer right"}
    async with (
        ScriptedEndpoint(api_key="right") as endpoint,
        client_of(endpoint, headers=key) as client,
    ):
        endpoint.flow("flow", answer(1))

        said = await client.post("/prediction/flow", json=QUESTION)

    assert said.text.endswith('data:{"event":"end","data":"[DONE]"}\n\n')


async def test_plural_path_misleads_as_the_real_one_does() -> None:
    async with ScriptedEndpoint() as endpoint, client_of(endpoint) as client:
        without = await client.post("/predictions/flow", json=QUESTION)
        key = {"Authorization": "Bearer any"}
        with_key = await client.post("/predictions/flow", json=QUESTION, headers=key)

    assert without.status_code == 401
    assert without.content == Recording.load("plural-stream").body
    assert with_key.status_code == 200
    assert with_key.headers["content-type"].startswith("text/html")


@pytest.mark.parametrize("path", ["/", "/api/v1/chatmessages/flow?chatId=chat", "/api/v2/x"])
async def test_unknown_path_is_a_page_not_found(path: str) -> None:
    async with ScriptedEndpoint() as endpoint, httpx.AsyncClient() as client:
        said = await client.get(endpoint.url + path)

        assert [request.path for request in endpoint.other_requests] == [path]
    assert said.status_code == 404
    assert said.headers["content-type"].startswith("text/html")


async def test_malformed_question_is_a_bad_request() -> None:
    async with ScriptedEndpoint() as endpoint, client_of(endpoint) as client:
        endpoint.flow("flow")

        said = await client.post("/prediction/flow", content=b'{"question":"q"')

    assert said.status_code == 400
    assert said.json()["success"] is False


async def test_malformed_http_is_a_bad_request() -> None:
    async with ScriptedEndpoint() as endpoint:
        reader, writer = await asyncio.open_connection(*endpoint.url[7:].split(":"))

        writer.write(b"\x00\x01 no HTTP\r\n\r\n")

        assert (await asyncio.wait_for(reader.read(), 20)).startswith(b"HTTP/1.1 400 ")
        writer.close()
