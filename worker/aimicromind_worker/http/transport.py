"""Open and reuse the HTTP/1.1 connections of an httpx client, over TCP or TLS, without proxies.

httpx's own transport wakes a task for each part of a body, which is most of a token's cost. Here a
reader can pump the body instead (`pushed_body.py`).
"""

import asyncio
import os
import socket
import ssl
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterable
from functools import partial
from time import monotonic
from typing import Any, Final

import aiohappyeyeballs
import httpx
from typing_extensions import override

from aimicromind_worker.http.connection import HttpConnection

BODY: Final = "body"
"""Name of the response extension that holds the body, for readers that pump it."""

# Node.js closes a connection that is idle for 5 s; a request must not cross with the close.
_IDLE_S = 3.0
# RFC 8305, section 5.
_NEXT_ADDRESS_AFTER_S = 0.25
_PORTS = {"http": 80, "https": 443}
# RFC 9110 5.5: these would end the header field.
_NEVER_IN_A_HEAD = frozenset(b"\r\n\0")
# Shorter pieces of a request are joined, up to this length.
_TOGETHER_BYTES = 64 * 1024

_Origin = tuple[str, str, int]


class PushTransport(httpx.AsyncBaseTransport):
    """Opens a connection for each request that runs at the same time. One for the process.

    Of the timeouts of a request it applies `connect`, to TCP and TLS together.
    """

    def __init__(self, tls: ssl.SSLContext) -> None:
        self._tls = tls
        self._idle: dict[_Origin, list[tuple[float, HttpConnection]]] = defaultdict(list)

    @override
    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request, and return the response with its body still to be read.

        Raises:
            httpx.UnsupportedProtocol: The URL has no host, or its scheme is not HTTP.
            httpx.LocalProtocolError: A header holds a line end or NUL.
            httpx.ConnectError, httpx.ConnectTimeout: The request was not sent.
            httpx.ReadError, httpx.RemoteProtocolError: The endpoint may have received it.
        """
        origin = _origin(request.url)
        head = _head(request)
        connection = self._kept(origin) or await self._connect(origin, request.extensions)
        try:
            (status, headers), body = await connection.ask(_message(head, request))
        except BaseException:
            connection.close()
            raise
        return httpx.Response(status, headers=headers, stream=body, extensions={BODY: body})

    @override
    async def aclose(self) -> None:
        for kept in self._idle.values():
            for _, connection in kept:
                connection.close()

    def _kept(self, origin: _Origin) -> HttpConnection | None:
        kept, still_good = self._idle[origin], monotonic() - _IDLE_S
        while kept:
            since, connection = kept.pop()
            if connection.reusable and since > still_good:
                return connection
            connection.close()
        return None

    def _keep(self, origin: _Origin, connection: HttpConnection) -> None:
        if not connection.reusable:
            return
        self._idle[origin].append((monotonic(), connection))
        asyncio.get_running_loop().call_later(_IDLE_S, self._close_oldest, origin)

    def _close_oldest(self, origin: _Origin) -> None:
        kept, still_good = self._idle[origin], monotonic() - _IDLE_S
        while kept and kept[0][0] <= still_good:
            kept.pop(0)[1].close()

    async def _connect(self, origin: _Origin, extensions: dict[str, Any]) -> HttpConnection:
        scheme, host, port = origin
        secure = scheme == "https"
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(extensions.get("timeout", {}).get("connect")):
                addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                connected = await aiohappyeyeballs.start_connection(
                    addresses, happy_eyeballs_delay=_NEXT_ADDRESS_AFTER_S
                )
                _, connection = await loop.create_connection(
                    lambda: HttpConnection(partial(self._keep, origin)),
                    sock=connected,
                    ssl=self._tls if secure else None,
                    server_hostname=host if secure else None,
                )
        except TimeoutError as error:
            raise httpx.ConnectTimeout("no connection in time") from error
        except (OSError, UnicodeError) as error:
            where = f"{host}:{port} ({_reason(error)})"
            raise httpx.ConnectError(f"cannot connect to {where}") from error
        return connection


def _origin(url: httpx.URL) -> _Origin:
    if url.scheme not in _PORTS or not url.host:
        raise httpx.UnsupportedProtocol("the URL has no host, or its scheme is not http or https")
    return url.scheme, url.raw_host.decode(), url.port or _PORTS[url.scheme]


def _head(request: httpx.Request) -> bytes:
    headers = request.headers.raw
    if any(not _NEVER_IN_A_HEAD.isdisjoint(name + value) for name, value in headers):
        raise httpx.LocalProtocolError("a header holds a line end or NUL")
    lines = [b"%b %b HTTP/1.1\r\n" % (request.method.encode(), request.url.raw_path)]
    lines += [b"%b: %b\r\n" % header for header in headers]
    return b"".join((*lines, b"\r\n"))


async def _message(head: bytes, request: httpx.Request) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of a request, short pieces joined."""
    assert isinstance(request.stream, AsyncIterable)  # noqa: S101 - an asynchronous transport's is
    waiting = head
    async for part in request.stream:
        if len(waiting) + len(part) > _TOGETHER_BYTES:
            yield waiting
            waiting = b""
        waiting += part
    yield waiting


def _reason(error: OSError | UnicodeError) -> str:
    match error:
        case socket.gaierror() | UnicodeError():
            return "the host is not known"
        case ssl.SSLCertVerificationError():
            return error.verify_message
        case ssl.SSLError():
            return error.reason or "TLS failed"
        case _:
            return os.strerror(error.errno) if error.errno else type(error).__name__
