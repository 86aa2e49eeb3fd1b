"""One HTTP/1.1 connection to the endpoint, which carries requests one after the other.

Invariants:

- One request is open at a time. Bytes that arrive without one close the connection.
- The body of a response is pushed to its reader (`pushed_body.py`). A connection decides nothing
  about its own reuse beyond `reusable`; `transport.py` keeps or drops it.
- A response fails at most once: by its head if that is missing, else by its body.
- Another request may follow only if the last one was sent and answered whole, and the response
  allows it (RFC 9112 9.3).
- A head, a trailer, or the bytes around a chunk take at most `_MOST_BESIDE_BODY_BYTES`.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import cast

import httpx
from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser
from typing_extensions import override

from aimicromind_worker.http.pushed_body import BodyControls, PushedBody

_MOST_BESIDE_BODY_BYTES = 64 * 1024
_DELIMITERS = frozenset({b"content-length", b"transfer-encoding"})

Head = tuple[int, list[tuple[bytes, bytes]]]
"""Status and headers of a response."""


class HttpConnection(asyncio.Protocol):
    """Carries one request at a time. Use it from the event loop only."""

    def __init__(self, on_release: "Callable[[HttpConnection], None]") -> None:
        """Prepare for `loop.create_connection`.

        Args:
            on_release: Called once a response is no longer needed.
        """
        self._may_follow = False
        self._is_sent = True
        self._writable: asyncio.Future[None] | None = None
        self._on_release = on_release
        self._transport: asyncio.Transport | None = None
        self._parser: HttpResponseParser | None = None
        self._head: asyncio.Future[Head] | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: PushedBody | None = None
        self._is_interim = False
        self._beside_body_bytes = 0
        self._controls = BodyControls(self._pause, self._resume, self._release)

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

    async def ask(self, request: AsyncGenerator[bytes, None]) -> tuple[Head, PushedBody]:
        """Send a request and wait for the head of the response; its body may still arrive.

        A piece of the request is asked for once the socket has taken the one before. If the
        response begins earlier, the rest of the request is not sent.

        Raises:
            httpx.ReadError: The connection was lost; the endpoint may have received the request.
            httpx.RemoteProtocolError: The response is not HTTP.
        """
        self._may_follow = False
        self._headers, self._beside_body_bytes = [], 0
        self._head = asyncio.get_running_loop().create_future()
        self._body = body = PushedBody(self._controls)
        self._is_sent = False
        async with aclosing(request) as pieces:
            async for piece in pieces:
                if self._transport is not None:
                    self._transport.write(piece)
                if not await self._may_send_more(self._head):
                    break
            else:
                self._is_sent = True
        return await self._head, body

    async def _may_send_more(self, head: asyncio.Future[Head]) -> bool:
        """Wait until the socket takes more; return false if the response has begun."""
        if self._writable is not None:
            await asyncio.wait((head, self._writable), return_when=asyncio.FIRST_COMPLETED)
        return not head.done()

    def close(self) -> None:
        """Close at once; an open response fails."""
        self._may_follow = False
        if self._transport is not None:
            self._transport.abort()

    def _release(self) -> None:
        if not self.reusable:
            self.close()
        self._on_release(self)

    def _pause(self) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing() and transport.is_reading():
            transport.pause_reading()

    def _resume(self) -> None:
        transport = self._transport
        if transport is not None and not transport.is_closing() and not transport.is_reading():
            transport.resume_reading()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._parser = HttpResponseParser(self)

    @override
    def data_received(self, data: bytes) -> None:
        body, parser = self._body, self._parser
        if body is None or parser is None or body.complete:
            # No request is open.
            self.close()
            return
        self._beside_body_bytes += len(data)
        try:
            parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._fail(httpx.RemoteProtocolError("the response is not HTTP"), error)
        else:
            if self._beside_body_bytes > _MOST_BESIDE_BODY_BYTES:
                self._fail(httpx.RemoteProtocolError("the head of the response has no end"))
        body.deliver()

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
            # RFC 9112 6.3: without a length, the close is the end of the body.
            self._body.end()

    @override
    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    @override
    def resume_writing(self) -> None:
        if self._writable is not None:
            self._writable.set_result(None)
            self._writable = None

    # The parser calls the rest. What it raises ends `feed_data` as `HttpParserError`.

    def on_message_begin(self) -> None:
        """Begin a response."""
        if self._body is not None and self._body.complete:
            raise HttpParserError("a second response to one request")

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header, or a trailer."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """End the head."""
        if self._parser is None or self._head is None:
            return
        status = self._parser.get_status_code()
        # RFC 9110 15.2: any number of interim responses may precede the final one.
        self._is_interim = status < httpx.codes.OK
        if self._is_interim:
            self._headers = []
        elif not self._head.done():
            self._head.set_result((status, self._headers))

    def on_body(self, data: bytes) -> None:
        """Keep a part of the body."""
        self._beside_body_bytes = 0
        if self._body is not None:
            self._body.put(data)

    def on_message_complete(self) -> None:
        """End the response."""
        if self._parser is None or self._body is None or self._is_interim:
            return
        self._may_follow = self._parser.should_keep_alive()
        self._body.end()

    def _fail(self, error: httpx.TransportError, cause: BaseException | None = None) -> None:
        """Close, and fail the response unless it is complete."""
        error.__cause__ = cause
        self.close()
        if self._head is not None and not self._head.done():
            self._head.set_exception(error)
        elif self._body is not None and not self._body.complete:
            self._body.end(error)
