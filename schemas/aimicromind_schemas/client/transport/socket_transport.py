"""The socket of a broker's connection: what was heard last, raw writing, and an end at once."""

import asyncio
import socket
import struct
from collections.abc import Iterable
from typing import Any, SupportsIndex, cast

from aiormq.abc import AbstractConnection
from aiormq.connection import DEFAULT_PORTS, TransportFactory
from typing_extensions import override
from yarl import URL

from aimicromind_schemas.client.transport.demultiplexer import FrameDemultiplexer

# With this a close drops what the system has not sent yet, instead of sending it later.
_DROP_ON_CLOSE = struct.pack("ii", 1, 0)
_TLS_GOODBYE_S = 1.0
# Used where the broker sets no limit; the one that RabbitMQ ships with.
_FRAME_MAX = 131_072


class SocketTransport(TransportFactory):
    """Opens one socket for aiormq and keeps a hand on it.

    Attributes:
        heard: How often something came; a number that stands still is silence.
        demultiplexer: Where frames are taken before aiormq reads them.
    """

    def __init__(self) -> None:
        self.heard = 0
        self.demultiplexer = FrameDemultiplexer()
        self._transport: asyncio.WriteTransport | None = None

    @override
    async def create(
        self,
        url: URL,
        **kwargs: Any,  # as aiormq passes them
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        trust = kwargs.pop("ssl_context_provider")
        if url.scheme == "amqps":
            # A peer that is silent would hold the close for half a minute.
            kwargs |= {"ssl": await trust.get_context(), "ssl_shutdown_timeout": _TLS_GOODBYE_S}
        loop = asyncio.get_running_loop()
        host, port = url.host or "", url.port or DEFAULT_PORTS[url.scheme]
        reader = _SocketReader(self)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.create_connection(lambda: protocol, host, port, **kwargs)
        self._transport = transport
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)

    def is_free(self) -> bool:
        """Return whether what is written now goes out now, as far as the system takes it."""
        transport = self._transport
        return (
            transport is not None
            and not transport.is_closing()
            and not transport.get_write_buffer_size()
        )

    def write(self, data: bytes) -> None:
        """Write whole frames."""
        if self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        """Close at once; what the peer has not been sent yet it never gets."""
        if self._transport is None or self._transport.is_closing():
            return
        raw = cast("socket.socket", self._transport.get_extra_info("socket"))
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _DROP_ON_CLOSE)
        self._transport.abort()


def frame_max(connection: AbstractConnection) -> int:
    """Return how many bytes a frame may have at most."""
    return connection.connection_tune.frame_max or _FRAME_MAX


class _SocketReader(asyncio.StreamReader):
    def __init__(self, wire: SocketTransport) -> None:
        super().__init__()
        self._wire = wire

    @override
    def feed_data(self, data: Iterable[SupportsIndex]) -> None:
        self._wire.heard += 1
        if for_aiormq := self._wire.demultiplexer.part(bytes(data)):
            super().feed_data(for_aiormq)

    @override
    def feed_eof(self) -> None:
        if cut_off := self._wire.demultiplexer.rest():
            super().feed_data(cut_off)
        super().feed_eof()
