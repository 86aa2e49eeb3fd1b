"""A prediction endpoint that answers as scripted and notes what it was asked.

It speaks real HTTP/1.1 and behaves as the real server where that is known to matter: see
`answers.py` for what it says, `script.py` for how a test tells it what to say, `memory.py` for
what it remembers. A run goes on when its client has gone; runs of equal chatId mix.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

from aimicromind_testing.endpoint.answers import (
    answer,
    error_answer,
    html_page,
    json_answer,
    json_error,
    never_answers,
    status_answer,
)
from aimicromind_testing.endpoint.call import Call
from aimicromind_testing.endpoint.client import ServedClient
from aimicromind_testing.endpoint.connection import Request, ServerConnection
from aimicromind_testing.endpoint.memory import Memory
from aimicromind_testing.endpoint.player import Channels, Player
from aimicromind_testing.endpoint.script import Script

_A_MOMENT = timedelta(seconds=5)

_UNAUTHORIZED = "Error: predictionsServices.buildChatflow - Unauthorized"
_NO_KEY = json_answer(401, {"error": "Unauthorized Access"})
_NO_SUCH_FLOW = "Error: chatflowsService.checkIfChatflowIsValidForStreaming - Chatflow {} not found"


@dataclass(slots=True)
class _Flow:
    """What a flow answers, and how often it was called."""

    scripts: tuple[Script, ...]
    streaming: bool | None
    own_documents: bool | Script
    calls: int = 0

    def next_script(self) -> Script:
        self.calls += 1
        return self.scripts[min(self.calls, len(self.scripts)) - 1]


class ScriptedEndpoint:
    """An HTTP server with the flows it was given; use it with `async with`.

    It belongs to one event loop. What it noted may be read at any time, also after its end.
    """

    def __init__(
        self, *, api_key: str | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        """Prepare; nothing listens yet.

        Args:
            api_key: The key that predictions and the memory need, if any.
            host: The interface to listen on.
            port: Where to listen there; 0 takes a free one.
        """
        self.calls: list[Call] = []
        """Every prediction asked for, in order."""
        self.other_requests: list[Request] = []
        """Everything else asked for, in order: about flows and messages, aborts, wrong paths."""
        self.instead_of_messages: Script | None = None
        """What answers whoever asks for messages, such as `html_page(404)`; None: they do."""
        self._api_key = api_key
        self._host = host
        self._port = port
        self._flows: dict[str, _Flow] = {}
        self._memory = Memory()
        self._channels: Channels = {}
        self._runs: dict[Player, asyncio.Task[None]] = {}
        self._connections: dict[ServerConnection, asyncio.Task[None]] = {}
        self._news = asyncio.Condition()

    @property
    def url(self) -> str:
        """The base of its URLs, without a slash at the end; valid inside `async with`."""
        return f"http://{self._host}:{self._port}"

    @property
    def live_calls(self) -> list[Call]:
        """The calls whose clients are being answered."""
        return [call for call in self.calls if call.live]

    def flow(
        self,
        flow_id: str,
        *scripts: Script,
        streaming: bool | None = True,
        own_documents: bool | Script = False,
    ) -> None:
        """Add or replace a flow.

        Args:
            flow_id: Its name in the path.
            *scripts: The answers to its first, second, ... call; the last one repeats.
            streaming: What it says when asked whether it streams; None: it does not know the
                question (404), as behind a proxy that lets only predictions through.
            own_documents: What it says when asked whether it answers from documents that were
                uploaded to a conversation, or what else answers that.
        """
        self._flows[flow_id] = _Flow(scripts or (answer(),), streaming, own_documents)

    async def called(self, count: int, within: timedelta = _A_MOMENT) -> list[Call]:
        """Wait until so many predictions in all were asked for, and give all of them.

        Raises:
            TimeoutError: They were not, in time.
        """
        await self.until(lambda: len(self.calls) >= count, within)
        return self.calls

    async def until(self, holds: Callable[[], bool], within: timedelta = _A_MOMENT) -> None:
        """Wait until something holds of its calls and requests, such as `not live_calls`.

        Raises:
            TimeoutError: It did not, in time.
        """
        async with asyncio.timeout(within.total_seconds()), self._news:
            await self._news.wait_for(holds)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: ServerConnection(self._opened), self._host, self._port, backlog=1024
        )
        self._port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for connection in self._connections:
            connection.abort()
        for run in self._runs.values():
            run.cancel()
        # A connection's end ends its task.
        await asyncio.gather(*self._connections.values())
        await self._server.wait_closed()
        fates = await asyncio.gather(*self._runs.values(), return_exceptions=True)
        self._runs.clear()
        self._channels.clear()
        # What failed in a script shows here.
        for fate in fates:
            if isinstance(fate, Exception):
                raise fate

    def _opened(self, connection: ServerConnection) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(connection))
        self._connections[connection] = task

    async def _serve(self, connection: ServerConnection) -> None:
        try:
            while (request := await connection.request()) is not None:
                await self._answer(request, connection)
        finally:
            connection.abort()
        del self._connections[connection]

    async def _answer(self, request: Request, connection: ServerConnection) -> None:
        url = urlsplit(request.path)
        path = url.path.removeprefix("/api/v1/")
        match [request.method, *(unquote(part) for part in path.split("/"))]:
            case ["POST", "prediction", flow_id] if (body := request.json_object()) is not None:
                call = Call.of(flow_id, body, request.headers, request.body)
                await self._predict(call, connection)
                return
            case ["POST", "prediction", _]:
                script = json_error(400, "Unexpected token in JSON")
            case ["GET", "ping"]:
                script = status_answer(200, b"pong")
            case ["GET", "chatflows-streaming", flow_id]:
                script = self._whether_it_streams(flow_id)
            case ["GET", "chatflows-uploads", flow_id]:
                script = self._what_may_be_uploaded(flow_id)
            case ["GET", "chatmessage", flow_id]:
                script = self._messages(flow_id, dict(parse_qsl(url.query)), request.headers)
            case ["PUT", "chatmessage", "abort", flow_id, chat_id]:
                self._abort(flow_id, chat_id)
                script = json_answer(200, {"status": 200, "message": "Chat message aborted"})
            case [_, "predictions", *_] if "authorization" not in request.headers:
                script = _NO_KEY
            case [_, "predictions", *_]:
                script = html_page(200)
            case _:
                script = html_page(404)
        self.other_requests.append(request)
        await self._run(script, Call.of("", {}, request.headers), connection)

    async def _predict(self, call: Call, connection: ServerConnection) -> None:
        script = self._script(call)
        self.calls.append(call)
        if script.saved_after is not None:
            self._memory.expect(call, script.saved_after)
        await self._run(script, call, connection)

    async def _run(self, script: Script, call: Call, connection: ServerConnection) -> None:
        """Start a run; wait only until its client is served."""
        client = ServedClient(call, connection)
        run = Player(script, client, self._channels)
        self._runs[run] = asyncio.get_running_loop().create_task(self._play(run, connection))
        await self._tell()
        await client.served
        await self._tell()

    async def _play(self, run: Player, connection: ServerConnection) -> None:
        try:
            await run.play()
        except BaseException:
            connection.abort()
            raise
        del self._runs[run]
        await self._tell()

    def _script(self, call: Call) -> Script:
        streaming = bool(call.json.get("streaming"))
        flow = self._flows.get(call.flow)
        if flow is None:
            reason = f"Chatflow {call.flow} not found in the database!"
            return never_answers() if streaming else json_error(404, reason)
        if not self._knows_the_key(call.headers):
            return error_answer(_UNAUTHORIZED) if streaming else json_error(500, _UNAUTHORIZED)
        return flow.next_script()

    def _whether_it_streams(self, flow_id: str) -> Script:
        flow = self._flows.get(flow_id)
        if flow is None:
            return json_error(500, _NO_SUCH_FLOW.format(flow_id))
        if flow.streaming is None:
            return html_page(404)
        return json_answer(200, {"isStreaming": flow.streaming})

    def _what_may_be_uploaded(self, flow_id: str) -> Script:
        flow = self._flows.get(flow_id)
        if flow is None:
            return json_error(500, _NO_SUCH_FLOW.format(flow_id))
        if isinstance(flow.own_documents, Script):
            return flow.own_documents
        if flow.streaming is None:
            return html_page(404)
        allowed = {
            "isSpeechToTextEnabled": False,
            "isImageUploadAllowed": False,
            "isRAGFileUploadAllowed": flow.own_documents,
            "imgUploadSizeAndTypes": [],
            "fileUploadSizeAndTypes": [],
        }
        return json_answer(200, allowed)

    def _messages(
        self, flow_id: str, query: Mapping[str, str], headers: Mapping[str, str]
    ) -> Script:
        if self.instead_of_messages is not None:
            return self.instead_of_messages
        if not self._knows_the_key(headers):
            return _NO_KEY
        newest_first = query.get("order") == "DESC"
        chat_id = query.get("chatId", "")
        return json_answer(200, self._memory.messages(flow_id, chat_id, newest_first=newest_first))

    def _knows_the_key(self, headers: Mapping[str, str]) -> bool:
        return not self._api_key or headers.get("authorization") == f"Bearer {self._api_key}"

    def _abort(self, flow_id: str, chat_id: str) -> None:
        for run in self._runs:
            if (run.call.flow, run.call.chat_id) == (flow_id, chat_id):
                run.abort()

    async def _tell(self) -> None:
        async with self._news:
            self._news.notify_all()
