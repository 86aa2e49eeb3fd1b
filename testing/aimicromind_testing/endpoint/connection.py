"""HTTP/1.1 on one client's socket: h11 reads the requests, answers are written byte by byte."""

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

# SO_LINGER, on with no time to linger: closing sends RST instead of FIN.
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

_POLL_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, read to its end."""

    method: str
    path: str
    """With the query, as sent."""
    headers: Mapping[str, str]
    """Names in lower case."""
    body: bytes

    def json_object(self) -> dict[str, Any] | None:
        """Read the body; None if it is no JSON object."""
        try:
            value = load_json(self.body)
        except ValueError:
            return None
        return value if isinstance(value, dict) else None


class ServerConnection(asyncio.Protocol):
    """One client; its requests come one after the other, and are answered in that order."""

    def __init__(self, opened: Callable[["ServerConnection"], None]) -> None:
        self.held = False
        """Whether more than the socket and a small buffer hold is unread."""
        self.lost = False
        """Whether the connection is over; nothing may be written then."""
        self.when_lost: Callable[[], None] | None = None
        """Is called when it becomes so."""
        self._opened = opened
        self._requests: asyncio.Queue[Request | None] = asyncio.Queue()
        self._parser = h11.Connection(h11.SERVER)
        self._head: h11.Request | None = None
        self._body = bytearray()
        self._writable = asyncio.Event()

    async def request(self) -> Request | None:
        """Wait for the next request; None when the client is gone."""
        return await self._requests.get()

    def write(self, data: bytes) -> None:
        """Write; whoever does so waits then while the connection is `held`."""
        self._transport.write(data)

    def write_head(self, status: int, headers: tuple[tuple[str, str], ...]) -> None:
        """Write a status line and headers."""
        status_line = f"HTTP/1.1 {status} {responses.get(status, '')}"
        lines = [status_line, *(f"{name}: {value}" for name, value in headers)]
        self.write("".join(f"{line}\r\n" for line in [*lines, ""]).encode("latin-1"))

    async def drained(self) -> None:
        """Wait until it is not `held`, or lost."""
        if self.held:
            await self._writable.wait()

    async def acknowledged(self) -> None:
        """Wait until all is written, and on Linux until the client's side has it, or it is lost."""
        self._transport.set_write_buffer_limits(high=0)
        await self.drained()
        while not self.lost and _unacknowledged_bytes(self._socket) > 0:  # noqa: ASYNC110 - the kernel tells nobody
            await asyncio.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Send what is written, then FIN."""
        self._transport.close()

    def reset(self) -> None:
        """Send RST; what is not `acknowledged` may be lost."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self._transport.abort()

    def abort(self) -> None:
        """Close without sending what is written."""
        self._transport.abort()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Serve a client; asyncio calls this."""
        self._transport = cast("asyncio.Transport", transport)
        self._opened(self)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """End what waits; asyncio calls this."""
        self.lost = True
        self.resume_writing()
        if self.when_lost is not None:
            self.when_lost()
        self._requests.put_nowait(None)

    @override
    def pause_writing(self) -> None:
        """Hold the writers: the client reads too slowly; asyncio calls this."""
        self.held = True
        self._writable.clear()

    @override
    def resume_writing(self) -> None:
        """Resume the writers; asyncio calls this."""
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
        """Take one event from the parser; say whether there may be another."""
        match self._parser.next_event():
            case h11.Request() as head:
                self._head = head
            case h11.Data(data=part):
                self._body += part
            case h11.EndOfMessage() if self._head is not None:
                self._requests.put_nowait(_request(self._head, bytes(self._body)))
                unread, _ = self._parser.trailing_data
                # h11 wants to see the answer before it reads on; ours pass it by.
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
    """Return how much the kernel would throw away on a reset; only Linux tells."""
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
