"""A TCP connection's middleman, for faults on the way to a server that others use as well."""

import asyncio
import re
import socket
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Final, Self, cast

from typing_extensions import override

from tests.support.amqp import WITHIN_S

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)
# A field of the client's properties: a long string, its length before it.
_NAME: Final = re.compile(rb"connection_nameS(.{4})(.*)", re.DOTALL)
_HANDSHAKE_BYTES: Final = 2000


class Proxy:
    """Forwards to a port of this machine. Use it with `async with`, from one event loop.

    Attributes:
        to_port: Where new connections go.
        alter: What becomes of the bytes on their way to the server.
    """

    def __init__(self, port: int) -> None:
        self._accepted = 0
        self._news = asyncio.Event()
        self.to_port = port
        self.alter: Callable[[bytes], bytes] = bytes
        self._parted = False
        self._ways: set[_Way] = set()

    @property
    def port(self) -> int:
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        """The address of a private broker behind it."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    async def tried(self, times: int) -> None:
        """Wait until a connection was opened so often."""
        async with asyncio.timeout(WITHIN_S):
            while self._accepted < times:
                self._news.clear()
                await self._news.wait()

    @property
    def open(self) -> int:
        """How many connections there are."""
        return len(self._ways)

    def hold(self, name: str = "") -> None:
        """Keep back what the server says, on the open connections with this in their name."""
        for way in self._named(name):
            way.hold()

    def lose(self, name: str = "") -> None:
        """Lose what the server says, until `release`. Toggle it while the server says nothing."""
        for way in self._named(name):
            way.lost_bytes = way.lost_bytes or 0

    def lost(self, name: str = "") -> int:
        """Count the bytes that are lost since `lose`."""
        return sum(way.lost_bytes or 0 for way in self._named(name))

    def silence(self, name: str = "") -> None:
        """Pass nothing on any more, either way, not even an end; as if a cable were cut."""
        for way in self._named(name):
            way.hold()
            way.hold_client()

    def part(self) -> None:
        """Be a network that carries nothing: of open connections, and of those to come."""
        self._parted = True
        self.silence()

    def release(self, name: str = "") -> None:
        """Let through what was kept back."""
        self._parted = False
        for way in self._named(name):
            way.release()

    def reset(self, name: str = "") -> None:
        """Break connections with RST, on both sides."""
        for way in self._named(name):
            way.reset()

    def _named(self, name: str) -> "list[_Way]":
        return [way for way in self._ways if name in way.name]

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for way in list(self._ways):
            way.close()
        await self._server.wait_closed()

    def _accept(self) -> "_Client":
        self._accepted += 1
        self._news.set()
        way = _Way(self.to_port, self._ways, self.alter)
        self._ways.add(way)
        way.silent = self._parted
        return _Client(way)


class _Way:
    """One client's connection and the one to the server for it.

    Attributes:
        name: What an AMQP client calls its connection.
        silent: Whether nothing is to pass from the start.
        lost_bytes: How much of what the server said is lost; None while nothing is to be lost.
    """

    def __init__(self, port: int, ways: "set[_Way]", alter: Callable[[bytes], bytes]) -> None:
        self._port = port
        self._ways = ways
        self._alter = alter
        self._client: asyncio.Transport | None = None
        self._server: asyncio.Transport | None = None
        self._early = bytearray()
        self._first = bytearray()
        self.name = ""
        self.silent = False
        self.lost_bytes: int | None = None
        self._dialling: asyncio.Task[None] | None = None

    def hold(self) -> None:
        if self._server is not None:
            self._server.pause_reading()

    def hold_client(self) -> None:
        if self._client is not None:
            self._client.pause_reading()

    def release(self) -> None:
        self.silent, self.lost_bytes = False, None
        if self._client is not None and _was_reset(self._client):
            # A network would not carry what its sender's system has dropped.
            self.reset()
            return
        for transport in (self._client, self._server):
            if transport is not None:
                transport.resume_reading()

    def reset(self) -> None:
        for transport in (self._client, self._server):
            if transport is not None:
                raw = cast("socket.socket", transport.get_extra_info("socket"))
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
                transport.abort()

    def close(self) -> None:
        self._ways.discard(self)
        if self._dialling is not None:
            self._dialling.cancel()
        for transport in (self._client, self._server):
            if transport is not None:
                transport.close()

    def client_came(self, transport: asyncio.Transport) -> None:
        self._client = transport
        if self.silent:
            transport.pause_reading()
        self._dialling = asyncio.get_running_loop().create_task(self._dial())

    def to_server(self, data: bytes) -> None:
        data = self._alter(data)
        if len(self._first) < _HANDSHAKE_BYTES:
            self._first += data
            if named := _NAME.search(self._first):
                self.name = named[2][: int.from_bytes(named[1], "big")].decode()
        if self._server is None:
            self._early += data
        else:
            self._server.write(data)

    def to_client(self, data: bytes) -> None:
        if self.lost_bytes is not None:
            self.lost_bytes += len(data)
        elif self._client is not None:
            self._client.write(data)

    async def _dial(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            transport, _ = await loop.create_connection(
                lambda: _Server(self), "127.0.0.1", self._port
            )
        except OSError:
            self.close()
            return
        self._server = transport
        if self.silent:
            transport.pause_reading()
        self._server.write(bytes(self._early))


def _was_reset(transport: asyncio.Transport) -> bool:
    raw = cast("socket.socket", transport.get_extra_info("socket"))
    return raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0


class _Client(asyncio.Protocol):
    def __init__(self, way: _Way) -> None:
        self._way = way

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._way.client_came(cast("asyncio.Transport", transport))

    @override
    def data_received(self, data: bytes) -> None:
        self._way.to_server(data)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._way.close()


class _Server(asyncio.Protocol):
    def __init__(self, way: _Way) -> None:
        self._way = way

    @override
    def data_received(self, data: bytes) -> None:
        self._way.to_client(data)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._way.close()
