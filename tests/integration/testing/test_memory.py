import time
from datetime import datetime, timedelta

import httpx
import pytest

from aimicromind_testing import (
    Recording,
    Script,
    ScriptedEndpoint,
    Step,
    Unheard,
    answer,
    frame,
    html_page,
    json_error,
    play,
    send,
    silent_answer,
    whole_answer,
)
from tests.integration.testing.chats import chatting, text_of, tokens

TOOL = {"tool": "calculator", "toolInput": {"input": "6*7"}, "toolOutput": "42"}
DOCUMENT = {"pageContent": "six", "metadata": {"source": "a.pdf"}}
ACTION = {"id": "1", "mapping": {"approve": "Yes", "reject": "No"}, "elements": [], "data": {}}
PICTURE = {"type": "png", "data": "abc"}


async def test_question_and_answer_are_saved() -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", answer(3))
        body = {
            "question": "why?",
            "streaming": True,
            "chatId": "chat",
            "overrideConfig": {"sessionId": "session"},
        }

        said = await chats.client.post("/prediction/flow", json=body)
        question, reply = await chats.messages()

    assert (question["role"], question["content"]) == ("userMessage", "why?")
    assert (reply["role"], reply["content"]) == ("apiMessage", tokens(3))
    assert f'"chatMessageId":"{reply["id"]}"' in said.text
    assert question["id"] != reply["id"]
    for message in (question, reply):
        assert (message["chatId"], message["sessionId"]) == ("chat", "session")
        assert message["chatflowid"] == "flow"
    first, second = (datetime.fromisoformat(it["createdDate"]) for it in (question, reply))
    assert timedelta(0) <= second - first < timedelta(seconds=5)


async def test_what_the_run_showed_is_saved_with_the_answer() -> None:
    shown: list[Step] = [
        send("usedTools", [TOOL]),
        send("usedTools", [None]),
        send("sourceDocuments", [DOCUMENT]),
        send("artifacts", [PICTURE]),
        send("action", ACTION),
    ]
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", answer(1, after=shown), answer(1))

        await chats.said("rich")
        await chats.said("plain")
        question, rich = await chats.messages("rich")
        _, plain = await chats.messages("plain")

    names = ("usedTools", "sourceDocuments", "artifacts", "action")
    assert [rich[name] for name in names] == [[TOOL, None], [DOCUMENT], [PICTURE], ACTION]
    assert {plain[name] for name in names} == {question[name] for name in names} == {None}


async def test_messages_are_those_of_the_chat_asked_for_in_the_order_asked_for() -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", answer(1))
        endpoint.flow("other-flow", answer(1))

        await chats.said("chat", "one")
        await chats.said("other", "two")
        await chats.said("chat", "three")
        oldest_first = await chats.messages(order="ASC")

        assert [it["content"] for it in oldest_first] == ["one", "tok0 ", "three", "tok0 "]
        assert await chats.messages(order="DESC") == oldest_first[::-1]
        assert await chats.messages() == oldest_first
        assert await chats.messages("unknown") == []
        said = await chats.client.get("/chatmessage/other-flow", params={"chatId": "chat"})
        assert said.json() == []
        assert endpoint.other_requests[0].path == "/api/v1/chatmessage/flow?chatId=chat&order=ASC"


async def test_messages_come_late() -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", answer(2).saved(after=0.3))

        await chats.said()
        early = await chats.messages()
        deadline = time.monotonic() + 5
        while not (late := await chats.answers()):
            assert time.monotonic() < deadline

        assert time.monotonic() - (endpoint.calls[0].run_ended or 0) >= 0.3
    assert early == []
    assert late == [tokens(2)]


async def test_forgotten_run_is_played_whole_and_leaves_nothing() -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", answer(2).forgotten())

        said = await chats.said()

        assert [it["event"] for it in said] == ["start", "token", "token", "metadata", "end"]
        assert await chats.messages() == []


async def test_silent_answer_is_in_the_memory_alone() -> None:
    tools = Unheard(frame("usedTools", [TOOL]))
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", silent_answer("forty-two", before=[tools]))

        metadata, end = await chats.said()
        _, reply = await chats.messages()

    assert (metadata["event"], end["event"]) == ("metadata", "end")
    assert reply["content"] == "forty-two"
    assert reply["usedTools"] == [TOOL]
    assert reply["id"] == metadata["data"]["chatMessageId"]


async def test_answer_in_json_is_saved() -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", whole_answer("all of it", {"usedTools": [TOOL]}))

        said = await chats.client.post("/prediction/flow", json={"question": "q", "chatId": "chat"})
        _, reply = await chats.messages()

    assert reply["content"] == "all of it"
    assert reply["usedTools"] == [TOOL]
    assert reply["id"] == said.json()["chatMessageId"]


@pytest.mark.parametrize("name", ["b-toolagent", "c-retrieval", "d-hitl-1-ask", "a-emptyanswer"])
async def test_recorded_answer_is_saved(name: str) -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", play(name, pace=0).cut(after_bytes=100))

        await chats.said()
        await endpoint.until(lambda: endpoint.calls[0].run_ended is not None)
        _, reply = await chats.messages()

    frames = Recording.load(name).frames()
    data = {it["event"]: it["data"] for it in frames}
    assert reply["content"] == text_of(frames)
    assert reply["id"] == data["metadata"]["chatMessageId"]
    for event in ("usedTools", "sourceDocuments", "action"):
        assert reply[event] == data.get(event)


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}])
async def test_messages_need_the_key(headers: dict[str, str]) -> None:
    key = {"Authorization": "Bearer right"}
    async with ScriptedEndpoint(api_key="right") as endpoint, chatting(endpoint, key) as chats:
        endpoint.flow("flow", answer(1))
        await chats.said()
        url, chat = f"{endpoint.url}/api/v1/chatmessage/flow", {"chatId": "chat"}

        async with httpx.AsyncClient() as stranger:
            refused = await stranger.get(url, params=chat, headers=headers)

        assert refused.status_code == 401
        assert await chats.answers() == ["tok0 "]


@pytest.mark.parametrize(
    ("script", "status"), [(html_page(404), 404), (json_error(403, "Forbidden"), 403)]
)
async def test_messages_can_be_out_of_reach(script: Script, status: int) -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", answer(1))
        await chats.said()
        asked = {"chatId": "chat"}

        endpoint.instead_of_messages = script
        refused = await chats.client.get("/chatmessage/flow", params=asked)
        endpoint.instead_of_messages = None

        assert refused.status_code == status
        assert await chats.answers() == ["tok0 "]
