"""Serve small pages over HTTP/1.1 to any client, in bounded memory, time and descriptors.

Invariants:

- At most `_MOST_CONNECTIONS` are open. Another one closes the one that was idle for longest.
- A connection is read only after all its earlier requests were answered. Thus it holds the requests
  of one read, and one answer.
- `RequestReader` bounds the bytes and requests of a connection.
- A request has `_REQUEST_TIMEOUT_S`, from waiting for it until the client has taken the answer.
- One turn of the event loop accepts at most `_ACCEPTED_AT_ONCE` connections, and answers one
  request of each.
- Slow pages are answered one at a time, every `_PAUSE_S`; so are requests within `_CLOSELY_S` after
  another one of their connection.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from math import inf
from typing import Final

import structlog

from aimicromind_worker.telemetry.request_reader import ProbeRequest, Refused, RequestReader

log = structlog.get_logger()

_MOST_CONNECTIONS: Final = 256
# Longer than a request may be: a close with unread bytes resets the connection, and the client
# might not see the answer.
_READ_BYTES: Final = 16 * 1024
_REQUEST_TIMEOUT_S: Final = 5.0
_CLOSELY_S: Final = 0.05
_PAUSE_S: Final = 0.01
_ACCEPTED_AT_ONCE: Final = 32
_ACCEPT_AGAIN_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Page:
    """The answer to a request.

    Attributes:
        content_type: ASCII.
    """

    status: HTTPStatus
    content_type: str
    body: bytes


Respond = Callable[[str, str], Page]
"""Returns the page for a method and a path, which is decoded and has no query."""


@asynccontextmanager
async def serving_pages(
    listening: socket.socket, respond: Respond, slow: frozenset[str] = frozenset()
) -> AsyncIterator[None]:
    """Serve pages on a listening socket for the body, then close it and all connections.

    Args:
        listening: Bound, and with a backlog that holds a burst of clients.
        respond: Called in the event loop.
        slow: Paths whose pages take long to write.
    """
    server = _Server(respond, slow)
    with listening:
        listening.setblocking(False)  # noqa: FBT003 - the socket module's own
        # Each connection inherits it; the kernel else holds megabytes of what is not read.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _READ_BYTES)
        running = asyncio.create_task(server.run(listening))
        try:
            yield
        finally:
            running.cancel()
            await asyncio.wait((running,))


class _Server:
    """The connections of one listening socket."""

    def __init__(self, respond: Respond, slow: frozenset[str]) -> None:
        self._respond = respond
        self._slow = slow
        # In the order of their last answer, or of their start: the first is idle for longest.
        self._connections: dict[asyncio.Task[None], None] = {}
        self._one_by_one = asyncio.Lock()

    async def run(self, listening: socket.socket) -> None:
        """Accept and serve connections until cancelled."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as tasks:
            while True:
                try:
                    connection, _ = await loop.sock_accept(listening)
                    self._take(connection, tasks)
                    for _ in range(_ACCEPTED_AT_ONCE - 1):
                        connection, _ = listening.accept()
                        connection.setblocking(False)  # noqa: FBT003 - the socket module's own
                        self._take(connection, tasks)
                except BlockingIOError:
                    pass
                except OSError:
                    # No descriptor is left: free one for the next client.
                    self._close_idlest()
                    await asyncio.sleep(_ACCEPT_AGAIN_S)
                await asyncio.sleep(0)

    def _take(self, connection: socket.socket, tasks: asyncio.TaskGroup) -> None:
        if len(self._connections) >= _MOST_CONNECTIONS:
            self._close_idlest()
        task = tasks.create_task(self._serve(connection))
        self._connections[task] = None
        task.add_done_callback(partial(self._forget, connection))

    def _close_idlest(self) -> None:
        task = next(iter(self._connections), None)
        if task is not None:
            del self._connections[task]
            task.cancel()

    def _forget(self, connection: socket.socket, task: asyncio.Task[None]) -> None:
        self._connections.pop(task, None)
        connection.close()

    async def _serve(self, connection: socket.socket) -> None:
        reader = RequestReader()
        loop = asyncio.get_running_loop()
        answered_at = -inf
        with suppress(OSError):  # The client left, or was too slow: `TimeoutError` is one.
            while True:
                async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                    asked = await _next_request(connection, reader)
                    if asked is None:
                        return
                    if loop.time() - answered_at < _CLOSELY_S or self._is_slow(asked):
                        async with self._one_by_one:
                            await asyncio.sleep(_PAUSE_S)
                    await loop.sock_sendall(connection, self._answer(asked))
                if isinstance(asked, Refused) or asked.is_last:
                    return
                answered_at = loop.time()
                self._note_answer()

    def _is_slow(self, asked: ProbeRequest | Refused) -> bool:
        return isinstance(asked, ProbeRequest) and asked.path in self._slow

    def _note_answer(self) -> None:
        task = asyncio.current_task()
        if task in self._connections:
            del self._connections[task]
            self._connections[task] = None

    def _answer(self, asked: ProbeRequest | Refused) -> bytes:
        match asked:
            case Refused(status):
                return _written(_failure(status), is_last=True)
            case ProbeRequest(method, path, is_last):
                try:
                    page = self._respond(method, path)
                except Exception:
                    log.exception("health.page_failed")
                    page = _failure(HTTPStatus.INTERNAL_SERVER_ERROR)
                return _written(page, is_last=is_last, has_body=method != "HEAD")


async def _next_request(
    connection: socket.socket, reader: RequestReader
) -> ProbeRequest | Refused | None:
    """Wait for the next request; None once the client sends no more."""
    loop = asyncio.get_running_loop()
    while (asked := reader.next()) is None:
        data = await loop.sock_recv(connection, _READ_BYTES)
        if not data:
            return None
        reader.feed(data)
    return asked


def _failure(status: HTTPStatus) -> Page:
    return Page(status, "text/plain", status.phrase.encode())


def _written(page: Page, *, is_last: bool, has_body: bool = True) -> bytes:
    lines = (
        f"HTTP/1.1 {page.status} {page.status.phrase}",
        f"date: {formatdate(usegmt=True)}",
        f"content-type: {page.content_type}",
        f"content-length: {len(page.body)}",
        *(("connection: close",) if is_last else ()),
        "\r\n",
    )
    return "\r\n".join(lines).encode() + (page.body if has_body else b"")
