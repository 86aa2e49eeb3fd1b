"""Serve HTTP/1.1 on one client's socket: h11 reads requests, callers write raw answers."""

import asyncio
import fcntl
import socket
import struct
import sys
import termios
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import responses
from typing import Any, cast

import h11
from typing_extensions import override

from aimicromind_schemas.wire import load_json

# SO_LINGER, on, 0 s: a close sends RST instead of FIN.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

_POLL_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request with its whole body."""

    method: str
    path: str
    """Path and query, as sent."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def json_object(self) -> dict[str, Any] | None:
        """Return the body as a JSON object; None if it is none."""
        try:
            value = load_json(self.body)
        except ValueError:
            return None
        return value if isinstance(value, dict) else None


class ServerConnection(asyncio.Protocol):
    """The connection of one client. Requests are answered one after the other, in order."""

    def __init__(self, opened: Callable[["ServerConnection"], None]) -> None:
        self.held = False
        """Whether the write buffer is full, because the client reads too slowly."""
        self.lost = False
        """Whether the connection has closed; nothing may be written then."""
        self.when_lost: Callable[[], None] | None = None
        """Called when the connection closes."""
        self._opened = opened
        self._requests: asyncio.Queue[Request | None] = asyncio.Queue()
        self._parser = h11.Connection(h11.SERVER)
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._writable = asyncio.Event()

    async def request(self) -> Request | None:
        """Wait for the next request; None once the connection has closed."""
        return await self._requests.get()

    def write(self, data: bytes) -> None:
        """Write without waiting; await `drained` afterwards."""
        self._transport.write(data)

    def write_head(self, status: int, headers: tuple[tuple[str, str], ...]) -> None:
        """Write a status line and headers."""
        status_line = f"HTTP/1.1 {status} {responses.get(status, '')}"
        lines = [status_line, *(f"{name}: {value}" for name, value in headers)]
        self.write("".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1"))

    async def drained(self) -> None:
        """Wait until the connection is not `held`, or is lost."""
        if self.held:
            await self._writable.wait()

    async def acknowledged(self) -> None:
        """Wait until all bytes are written, on Linux also until TCP has acknowledged them."""
        self._transport.set_write_buffer_limits(high=0)
        await self.drained()
        while not self.lost and _unacknowledged_bytes(self._socket) > 0:  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Send the write buffer, then FIN."""
        self._transport.close()

    def reset(self) -> None:
        """Send RST; bytes that are not `acknowledged` may be lost."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    def abort(self) -> None:
        """Close without sending the write buffer."""
        self._transport.abort()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve a client; asyncio calls this."""
        self._transport = cast("asyncio.Transport", transport)
        self._opened(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """End all waits; asyncio calls this."""
        self.lost = True
        self.resume_writing()
        if self.when_lost is not None:
            self.when_lost()
        self._requests.put_nowait(None)

    @override
    def pause_writing(self) -> None:
        """Pause writers; asyncio calls this when the write buffer is full."""
        self.held = True
        self._writable.clear()

    @override
    def resume_writing(self) -> None:
        """Resume writers; asyncio calls this when the write buffer has drained."""
        self.held = False
        self._writable.set()

    @override
    def data_received(self, data: bytes) -> None:
        """Read requests; asyncio calls this."""
        self._parser.receive_data(data)
        try:
            while self._read_event():
                pass
        except h11.RemoteProtocolError:
            self._transport.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            self._transport.close()

    def _read_event(self) -> bool:
        """Read one event of the parser, and return whether there may be another."""
        match self._parser.next_event():
            case h11.Request() as head:
                self._head = head
            case h11.Data(data=part):
                self._body += part
            case h11.EndOfMessage() if self._head is not None:
                self._requests.put_nowait(_request(self._head, bytes(self._body)))
                unread, _ = self._parser.trailing_data
                # h11 reads no further request before it has seen the answer, which bypasses it.
                self._parser = h11.Connection(h11.SERVER)
                self._head, self._body = None, bytearray()
                if unread:
                    self._parser.receive_data(unread)
            case _:
                return False
        return True

    @property
    def _socket(self) -> socket.socket:
        return cast("socket.socket", self._transport.get_extra_info("socket"))


def _unacknowledged_bytes(client: socket.socket) -> int:
    """Return the bytes in the socket's send queue, which a reset drops; 0 except on Linux."""
    if sys.platform != "linux":
        return 0
    count = fcntl.ioctl(client.fileno(), termios.TIOCOUTQ, bytes(4))
    return int.from_bytes(count, sys.byteorder)


def _request(head: h11.Request, body: bytes) -> Request:
    return Request(
        method=head.method.decode(),
        path=head.target.decode(),
        headers={name.decode(): value.decode("latin-1") for name, value in head.headers},
        body=body,
    )
