"""Serve predictions over HTTP/1.1 as scripted, and record each request.

It behaves as the real server where that matters to clients. A run continues when its client has
gone. Runs with equal chatIds write into one stream.
"""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

from aimicromind_testing.endpoint.answers import answer, json_answer
from aimicromind_testing.endpoint.api import Api, ScriptedFlow
from aimicromind_testing.endpoint.call import Call
from aimicromind_testing.endpoint.client import ServedClient
from aimicromind_testing.endpoint.connection import Request, ServerConnection
from aimicromind_testing.endpoint.memory import Memory
from aimicromind_testing.endpoint.player import Channels, Player
from aimicromind_testing.endpoint.script import Script

_WITHIN = timedelta(seconds=5)


class ScriptedEndpoint:
    """An HTTP server with the flows that were added; use it with `async with`.

    It belongs to one event loop. Its records may be read at any time, also after its end.
    """

    def __init__(
        self, *, api_key: str | None = None, host: str = "127.0.0.1", port: int = 0
    ) -> None:
        """Prepare; nothing listens yet.

        Args:
            api_key: Key that predictions and messages require; None for no key.
            host: Address to listen on.
            port: Port to listen on; 0 for a free one.
        """
        self.calls: list[Call] = []
        """Every prediction request, in order."""
        self.other_requests: list[Request] = []
        """Every other request, in order: about flows and messages, aborts, wrong paths."""
        self.instead_of_messages: Script | None = None
        """Answer to requests for saved messages, such as `html_page(404)`; None returns them."""
        self._host = host
        self._port = port
        self._memory = Memory()
        self._api = Api(api_key, self._memory)
        self._channels: Channels = {}
        self._runs: dict[Player, asyncio.Task[None]] = {}
        self._connections: dict[ServerConnection, asyncio.Task[None]] = {}
        self._changed = asyncio.Condition()

    @property
    def url(self) -> str:
        """Base URL, without a slash at the end; valid inside `async with`."""
        return f"http://{self._host}:{self._port}"

    @property
    def live_calls(self) -> list[Call]:
        """The calls whose answers have not ended for their clients."""
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
            flow_id: Its id in the path.
            *scripts: Answers to its first, second, ... call; the last one repeats. Without any,
                `answer()`.
            streaming: The server's answer whether the flow streams; None for 404, as behind a
                proxy that passes on predictions only.
            own_documents: The server's answer whether the flow uses documents that were uploaded
                to a conversation; a script replaces that answer.
        """
        flow = ScriptedFlow(scripts or (answer(),), streaming, own_documents)
        self._api.flows[flow_id] = flow

    async def called(self, count: int, within: timedelta = _WITHIN) -> list[Call]:
        """Wait until `count` predictions in all were requested, and return all calls.

        Raises:
            TimeoutError: There were fewer in time.
        """
        await self.until(lambda: len(self.calls) >= count, within)
        return self.calls

    async def until(self, holds: Callable[[], bool], within: timedelta = _WITHIN) -> None:
        """Wait until a condition on calls and requests holds, such as `not live_calls`.

        Raises:
            TimeoutError: It did not hold in time.
        """
        async with asyncio.timeout(within.total_seconds()), self._changed:
            await self._changed.wait_for(holds)

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
        # The task of a connection ends with it.
        await asyncio.gather(*self._connections.values())
        await self._server.wait_closed()
        outcomes = await asyncio.gather(*self._runs.values(), return_exceptions=True)
        self._runs.clear()
        self._channels.clear()
        # An error in a script must fail the test.
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

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
        path = [unquote(part) for part in url.path.removeprefix("/api/v1/").split("/")]
        match [request.method, *path]:
            case ["POST", "prediction", flow_id] if (body := request.json_object()) is not None:
                call = Call.of(flow_id, body, request.headers, request.body)
                await self._predict(call, connection)
                return
            case ["PUT", "chatmessage", "abort", flow_id, chat_id]:
                self._abort(flow_id, chat_id)
                script = json_answer(200, {"status": 200, "message": "Chat message aborted"})
            case ["GET", "chatmessage", _] if self.instead_of_messages is not None:
                script = self.instead_of_messages
            case _:
                script = self._api.other(request.method, path, url.query, request.headers)
        self.other_requests.append(request)
        await self._run(script, Call.of("", {}, request.headers), connection)

    async def _predict(self, call: Call, connection: ServerConnection) -> None:
        script = self._api.prediction(call)
        self.calls.append(call)
        if script.saved_after is not None:
            self._memory.expect(call, script.saved_after)
        await self._run(script, call, connection)

    async def _run(self, script: Script, call: Call, connection: ServerConnection) -> None:
        """Start a run, and wait until its answer has ended for its client."""
        client = ServedClient(call, connection)
        run = Player(script, client, self._channels)
        self._runs[run] = asyncio.get_running_loop().create_task(self._play(run, connection))
        await self._notify()
        await client.served
        await self._notify()

    async def _play(self, run: Player, connection: ServerConnection) -> None:
        try:
            await run.play()
        except BaseException:
            connection.abort()
            raise
        del self._runs[run]
        await self._notify()

    def _abort(self, flow_id: str, chat_id: str) -> None:
        for run in self._runs:
            if (run.call.flow, run.call.chat_id) == (flow_id, chat_id):
                run.abort()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
