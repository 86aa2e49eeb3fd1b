"""One connection to the endpoint: requests, one after the other, and the bytes that answer them.

A body is pushed: what the socket gives goes on to whoever takes it, without waking a task for
each piece. Which connection a request goes by is left to `transport`.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from contextvars import copy_context
from typing import cast

import httpx
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from typing_extensions import override

from aimicromind_worker.core.endpoint.exchange import Take

# Of a head, a trailer, or what stands around a chunk: nobody needs more of it.
_MOST_BESIDE_BODY = 64 * 1024
# Of a body that nobody takes; what one reading of the socket gives may come on top.
_MOST_WAITING = 64 * 1024
_DELIMITERS = frozenset({b"content-length", b"transfer-encoding"})

Head = tuple[int, list[tuple[bytes, bytes]]]


class HttpConnection(asyncio.Protocol):
    """Carries one request at a time. Use it from the event loop only."""

    def __init__(self, on_free: "Callable[[HttpConnection], None]") -> None:
        """Wait for the connection to be made.

        Args:
            on_free: Called once nobody needs a response any more.
        """
        self._may_follow = False
        self._is_sent = True
        self._room: asyncio.Future[None] | None = None
        self._on_free = on_free
        self._transport: asyncio.Transport | None = None
        self._parser: HttpResponseParser | None = None
        self._head: asyncio.Future[Head] | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: PushedBody | None = None
        self._is_interim = False
        self._beside_body = 0

    @property
    def reusable(self) -> bool:
        """Whether another request may follow."""
        transport = self._transport
        return (
            self._may_follow
            and self._is_sent
            and transport is not None
            and not transport.is_closing()
        )

    async def ask(self, request: AsyncGenerator[bytes, None]) -> "tuple[Head, PushedBody]":
        """Send a request and wait for the head of the response; its body is still to come.

        What the socket does not take is waited for, before more is asked of the request. Of one
        that is answered before its end, the rest is not sent.

        Raises:
            httpx.ReadError: The connection was lost; the endpoint may have seen the request.
            httpx.RemoteProtocolError: What came is not HTTP.
        """
        self._may_follow = False
        self._headers, self._beside_body = [], 0
        self._head = asyncio.get_running_loop().create_future()
        self._body = body = PushedBody(self)
        self._is_sent = False
        async with aclosing(request) as pieces:
            async for piece in pieces:
                if self._transport is not None:
                    self._transport.write(piece)
                if not await self._may_go_on(self._head):
                    break
            else:
                self._is_sent = True
        return await self._head, body

    async def _may_go_on(self, head: asyncio.Future[Head]) -> bool:
        """Wait until the socket takes more; say whether anybody wants it."""
        if self._room is not None:
            await asyncio.wait((head, self._room), return_when=asyncio.FIRST_COMPLETED)
        return not head.done()

    def free(self) -> None:
        """Release a response, whether or not all of it came."""
        if not self.reusable:
            self.close()
        self._on_free(self)

    def close(self) -> None:
        """Close at once; whoever waits for a response hears of it."""
        self._may_follow = False
        if self._transport is not None:
            self._transport.abort()

    def read_on(self, *, wanted: bool) -> None:
        """Read, or leave in the socket what comes. For the body."""
        transport = self._transport
        if transport is None or transport.is_closing() or transport.is_reading() == wanted:
            return
        if wanted:
            transport.resume_reading()
        else:
            transport.pause_reading()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._parser = HttpResponseParser(self)

    @override
    def data_received(self, data: bytes) -> None:
        body, parser = self._body, self._parser
        if body is None or parser is None or body.complete:
            # Nobody asked for it.
            self.close()
            return
        self._beside_body += len(data)
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._fail(httpx.RemoteProtocolError("what came is not HTTP"), error)
        else:
            if self._beside_body > _MOST_BESIDE_BODY:
                self._fail(httpx.RemoteProtocolError("the head of the response has no end"))
        body.give()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._may_follow = False
        self._parser = None
        if self._body is None or self._body.complete:
            return
        answered = self._head is not None and self._head.done()
        if exc is not None:
            self._fail(httpx.ReadError("the connection was reset"), exc)
        elif not answered:
            self._fail(httpx.ReadError("the connection was closed before the response"))
        elif any(name.lower() in _DELIMITERS for name, _ in self._headers):
            self._fail(httpx.ReadError("the connection was closed within the answer"))
        else:
            # RFC 9112 6.3: the close is the end of a body that says nothing of its length.
            self._body.end()

    @override
    def pause_writing(self) -> None:
        self._room = asyncio.get_running_loop().create_future()

    @override
    def resume_writing(self) -> None:
        if self._room is not None:
            self._room.set_result(None)
            self._room = None

    def on_message_begin(self) -> None:
        """Take the beginning of a response. For the parser."""
        if self._body is not None and self._body.complete:
            raise HttpParserError("a second response to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer. For the parser."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Take the end of a head. For the parser."""
        if self._parser is None or self._head is None:
            return
        status = self._parser.get_status_code()
        # RFC 9110 15.2: any number of interim responses may come before the one that counts.
        self._is_interim = status < httpx.codes.OK
        if self._is_interim:
            self._headers = []
        elif not self._head.done():
            self._head.set_result((status, self._headers))

    def on_body(self, data: bytes) -> None:
        """Take a part of the body. For the parser."""
        self._beside_body = 0
        if self._body is not None:
            self._body.put(data)

    def on_message_complete(self) -> None:
        """Take the end of a response. For the parser."""
        if self._parser is None or self._body is None or self._is_interim:
            return
        self._may_follow = self._parser.should_keep_alive()
        self._body.end()

    def _fail(self, error: httpx.TransportError, cause: BaseException | None = None) -> None:
        """Fail the response, unless it has come whole."""
        error.__cause__ = cause
        self.close()
        if self._head is not None and not self._head.done():
            self._head.set_exception(error)
        elif self._body is not None and not self._body.complete:
            self._body.end(error)


class PushedBody(httpx.AsyncByteStream):
    """The body of one response. Take it from one task.

    Attributes:
        complete: Whether nothing more comes.
    """

    def __init__(self, connection: HttpConnection) -> None:
        self.complete = False
        self._is_open = True
        self._connection = connection
        self._error: httpx.TransportError | None = None
        self._parts: list[bytes] = []
        self._waiting = 0
        self._take: Take | None = None
        self._pumped: asyncio.Future[bool] | None = None

    async def pump(self, take: Take) -> bool:
        """Return what comes, as it comes, until the body ends or enough is taken.

        Args:
            take: Called in the context of this call.

        Returns:
            Whether there may be more.

        Raises:
            httpx.ReadError: The connection was lost.
            httpx.RemoteProtocolError: What came is not HTTP.
            Exception: What `take` raised.
        """
        context = copy_context()
        self._take = lambda data: context.run(take, data)
        self._pumped = asyncio.get_running_loop().create_future()
        try:
            self.give()
            return await self._pumped
        finally:
            self._take = self._pumped = None

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        taken: list[bytes] = []

        def take(data: bytes) -> bool:
            taken.append(data)
            return False

        while await self.pump(take):
            yield taken.pop()

    @override
    async def aclose(self) -> None:
        # Once: the connection may soon be another one's.
        if self._is_open:
            self._is_open = False
            self._connection.free()

    def put(self, data: bytes) -> None:
        """Keep a part until `give`. For the connection."""
        self._parts.append(data)
        self._waiting += len(data)

    def end(self, error: httpx.TransportError | None = None) -> None:
        """Record that nothing more comes. For the connection."""
        self.complete, self._error = True, error
        self.give()

    def give(self) -> None:
        """Pass what has arrived to the reader. For the connection."""
        pumped = self._pumped
        if pumped is not None and not pumped.done():
            self._give_to(pumped)
        self._connection.read_on(wanted=self._waiting < _MOST_WAITING)

    def _give_to(self, pumped: asyncio.Future[bool]) -> None:
        if self._parts and self._take is not None:
            data = b"".join(self._parts)
            self._parts.clear()
            self._waiting = 0
            try:
                wants_more = self._take(data)
            except Exception as error:  # noqa: BLE001 - it is raised in the task that takes
                pumped.set_exception(error)
                return
            if not wants_more:
                pumped.set_result(True)
                return
        if self._error is not None:
            pumped.set_exception(self._error)
        elif self.complete:
            pumped.set_result(False)
