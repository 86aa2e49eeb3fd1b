"""Channels that come and go on a connection that stays."""

from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel


async def open_channel(connection: AbstractConnection) -> AbstractChannel:
    """Open a channel without publisher confirms.

    It is aiormq's own: aio-pika 10.2 leaves a callback of each channel on its connection, and so
    4 KB of memory until the connection closes (seen with aiormq 7.2.4).

    Raises:
        RuntimeError: The connection has closed.
    """
    transport = connection.transport
    if transport is None:
        raise RuntimeError("the connection has closed")
    await connection.ready()
    return await transport.connection.channel(publisher_confirms=False)
