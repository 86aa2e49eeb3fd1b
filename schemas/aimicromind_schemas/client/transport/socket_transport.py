"""The socket of a connection to the broker: demultiplexed reading, raw writing, abort."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Iterable
from typing import Any, SupportsIndex, cast

import aio_pika
from aiormq.abc import AbstractConnection
from aiormq.connection import DEFAULT_PORTS, TransportFactory
from typing_extensions import override
from yarl import URL

from aimicromind_schemas.client.transport.demultiplexer import FrameDemultiplexer

# SO_LINGER, on, 0 s: a close drops what the system has not sent, and sends RST.
_DROP_ON_CLOSE = struct.pack("ii", 1, 0)
_TLS_SHUTDOWN_S = 1.0
# RabbitMQ's default, used where the broker sets no limit.
_FRAME_MAX_BYTES = 131_072


class SocketTransport(TransportFactory):
    """Opens one socket for aiormq, and keeps access to it.

    Attributes:
        heard: How often bytes were received; it stands still while the broker is silent.
        demultiplexer: Sees all bytes before aiormq does.
    """

    def __init__(self) -> None:
        self.heard = 0
        self.demultiplexer = FrameDemultiplexer()
        self._transport: asyncio.WriteTransport | None = None
        self._gathered: list[bytes] = []

    @override
    async def create(
        self,
        url: URL,
        **kwargs: Any,  # as aiormq passes them
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        trust = kwargs.pop("ssl_context_provider")
        if url.scheme == "amqps":
            # asyncio's default: a silent peer delays the close by 30 s.
            kwargs |= {"ssl": await trust.get_context(), "ssl_shutdown_timeout": _TLS_SHUTDOWN_S}
        loop = asyncio.get_running_loop()
        host, port = url.host or "", url.port or DEFAULT_PORTS[url.scheme]
        reader = _SocketReader(self)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, host, port, **kwargs)
        self._transport = transport
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    def is_free(self) -> bool:
        """Return whether nothing waits in front of what is written next."""
        transport = self._transport
        return (
            transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )

    def write(self, data: bytes) -> None:
        """Write whole frames soon; nothing where the socket is not open.

        What is written in one turn of the event loop is sent together: each call of the system
        costs worker and broker more than a short frame does.
        """
        if not self._gathered:
            asyncio.get_running_loop().call_soon(self._send)
        self._gathered.append(data)

    def _send(self) -> None:
        data = b"".join(self._gathered)
        self._gathered.clear()
        # Between the end of the socket and that of the connection, uvloop raises where asyncio
        # drops the bytes.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def abort(self) -> None:
        """Close at once; unsent bytes are dropped."""
        if self._transport is None or self._transport.is_closing():
            return
        raw = cast("socket.socket", self._transport.get_extra_info("socket"))
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP_ON_CLOSE)
        self._transport.abort()


def frame_max(connection: AbstractConnection) -> int:
    """Return the most bytes that a frame may have on a connection, as negotiated."""
    return connection.connection_tune.frame_max or _FRAME_MAX_BYTES


class _SocketReader(asyncio.StreamReader):
    """Shows aiormq what the demultiplexer leaves to it."""

    def __init__(self, transport: SocketTransport) -> None:
        super().__init__()
        self._socket_transport = transport

    @override
    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        self._socket_transport.heard += 1
        if for_aiormq := self._socket_transport.demultiplexer.part(bytes(data)):
            super().feed_data(for_aiormq)

    @override
    def feed_eof(self) -> None:
        if cut_off := self._socket_transport.demultiplexer.rest():
            super().feed_data(cut_off)
        super().feed_eof()


class GuardedConnection(aio_pika.Connection):
    """A connection of aio_pika whose bytes are seen before aiormq reads them.

    Attributes:
        wire: The socket.
    """

    def __init__(self, url: URL, name: str, tls: ssl.SSLContext | None) -> None:
        """Prepare; nothing is opened yet.

        Args:
            url: Address of the broker.
            name: What operators see in the broker's list of connections.
            tls: For amqps://; None: the system's certificates are trusted.
        """
        super().__init__(url, ssl_context=tls, client_properties={"connection_name": name})
        self.wire = SocketTransport()
        self.kwargs["transport_factory"] = self.wire
