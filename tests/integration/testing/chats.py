"""What the tests of chats share: asking, leaving, reading frames and messages."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from aimicromind_testing import ScriptedEndpoint

SOON_SILENT = httpx.Timeout(20, read=0.2)
"""For a call that gets no answer; it has time enough to connect."""


def tokens(count: int, first: int = 0) -> str:
    return "".join(f"tok{number} " for number in range(first, count))


class Chats:
    """Chats with one flow."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.client = client

    def asking(self, chat: str = "chat", question: str = "why?") -> Any:  # noqa: ANN401 - httpx's own
        body = {"question": question, "streaming": True, "chatId": chat}
        return self.client.stream("POST", "/prediction/flow", json=body)

    async def said(self, chat: str = "chat", question: str = "why?") -> list[dict[str, Any]]:
        """Give the frames of an answer, up to its end or cut."""
        async with self.asking(chat, question) as response:
            return [frame async for frame in frames_of(response)]

    async def leave_after(self, count: int, chat: str = "chat", question: str = "why?") -> None:
        """Close the connection when so many frames have come."""
        async with self.asking(chat, question) as response:
            async for _ in frames_of(response):
                count -= 1
                if count == 0:
                    return

    async def messages(self, chat: str = "chat", **query: str) -> list[dict[str, Any]]:
        said = await self.client.get("/chatmessage/flow", params={"chatId": chat, **query})
        assert said.status_code == 200
        found: list[dict[str, Any]] = said.json()
        return found

    async def answers(self, chat: str = "chat") -> list[str]:
        found = await self.messages(chat)
        return [it["content"] for it in found if it["role"] == "apiMessage"]


async def frames_of(response: httpx.Response) -> AsyncIterator[dict[str, Any]]:
    try:
        async for line in response.aiter_lines():
            if line.startswith("data:"):
                yield json.loads(line.removeprefix("data:"))
    except (httpx.RemoteProtocolError, httpx.ReadError):
        pass


def text_of(frames: list[dict[str, Any]]) -> str:
    return "".join(frame["data"] for frame in frames if frame["event"] == "token")


def client_of(
    endpoint: ScriptedEndpoint, headers: dict[str, str] | None = None
) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=f"{endpoint.url}/api/v1", timeout=20, headers=headers)


@asynccontextmanager
async def chatting(
    endpoint: ScriptedEndpoint, headers: dict[str, str] | None = None
) -> AsyncIterator[Chats]:
    async with client_of(endpoint, headers) as client:
        yield Chats(client)
