"""A stream → what it holds up to now.

A stream has no end that AMQP would tell, so each reading writes a marker and reads up to it.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from uuid import uuid4

import aio_pika
import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import AMQPError, ChannelInvalidStateError

from aimicromind_worker.adapters.outgoing import Outgoing
from aimicromind_worker.adapters.patience import unless_cancelled

log = structlog.get_logger()

_SILENCE_S = 30.0
_ONE_WITHIN_S = 5.0
_CLOSE_S = 5.0
_PREFETCH = 500
_MARKER = "x-aimicromind-marker"
_OFFSET = "x-stream-offset"
_EARLIEST = datetime(1971, 1, 1, tzinfo=UTC)


class StreamUnreadable(ConnectionError):
    """A stream could not be read up to now."""

    def __init__(self, stream: str, reason: str) -> None:
        super().__init__(f"{stream} could not be read: {reason}")


async def read_up_to_now(
    connection: AbstractConnection,
    outgoing: Outgoing,
    stream: str,
    since: datetime | int | None,
    take: Callable[[DeliveredMessage], None],
) -> int:
    """Give each message of a stream that was there when the reading began, in their order.

    Args:
        connection: It gets a channel for the reading, and never publishes.
        outgoing: The way of the marker. While the broker has an alarm, the reading waits for it.
        stream: The queue's name.
        since: A time, aware, or the offset that an earlier reading gave; earlier messages may
            come, too. None: the beginning.
        take: Gets the messages.

    Returns:
        The offset from which the next reading can go on.

    Raises:
        StreamUnreadable: There is no such stream, or the broker fell silent for 30 s.
    """
    marker = aio_pika.Message(b"", message_id=str(uuid4()), headers={_MARKER: True})
    try:
        await outgoing.publish(marker, "", stream)
        async with _channel(connection) as channel:
            return await _read(channel, stream, since, marker.message_id, take)
    except (AMQPError, ChannelInvalidStateError, TimeoutError, RuntimeError) as error:
        # The last is how aio_pika tells that the connection has closed.
        raise StreamUnreadable(stream, str(error) or type(error).__name__) from error


@asynccontextmanager
async def _channel(connection: AbstractConnection) -> AsyncIterator[AbstractChannel]:
    """Have a channel for the body; a broker that does not answer its close is not waited for."""
    channel = connection.channel(publisher_confirms=False)
    async with asyncio.timeout(_SILENCE_S):
        await channel.initialize()
    try:
        yield channel
    finally:
        with suppress(AMQPError, ChannelInvalidStateError, TimeoutError, RuntimeError):
            async with asyncio.timeout(_CLOSE_S):
                await channel.close()
        unless_cancelled()


def offset_of(message: DeliveredMessage) -> int:
    """Give a message's place in its stream; -1 where it has none that can be read."""
    offset = (message.header.properties.headers or {}).get(_OFFSET)
    return offset if isinstance(offset, int) else -1


async def read_one(connection: AbstractConnection, stream: str, offset: int) -> bytes | None:
    """Give the body of the message at an offset; None if it is not there any more.

    Raises:
        StreamUnreadable: There is no such stream.
    """
    arrived: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
    try:
        async with asyncio.timeout(_SILENCE_S), _channel(connection) as channel:
            await channel.set_qos(prefetch_count=_PREFETCH)
            inner = await channel.get_underlay_channel()
            await inner.basic_consume(stream, arrived.put, arguments={_OFFSET: offset})
            with suppress(TimeoutError):
                async with asyncio.timeout(_ONE_WITHIN_S):
                    # It begins with the chunk that has the offset, or with the first that is left.
                    while offset_of(message := await arrived.get()) < offset:
                        pass
                    return message.body if offset_of(message) == offset else None
    except (AMQPError, ChannelInvalidStateError, TimeoutError, RuntimeError) as error:
        raise StreamUnreadable(stream, str(error) or type(error).__name__) from error
    return None


async def _read(
    channel: AbstractChannel,
    stream: str,
    since: datetime | int | None,
    marker: str | None,
    take: Callable[[DeliveredMessage], None],
) -> int:
    arrived: asyncio.Queue[DeliveredMessage | None] = asyncio.Queue()
    channel.close_callbacks.add(lambda *_: arrived.put_nowait(None))
    too_early = since is None or (isinstance(since, datetime) and since < _EARLIEST)
    offset = "first" if too_early else since
    async with asyncio.timeout(_SILENCE_S):
        await channel.set_qos(prefetch_count=_PREFETCH)
        # aio_pika's own consumer takes twice the time for each message.
        inner = await channel.get_underlay_channel()
        await inner.basic_consume(stream, arrived.put, arguments={_OFFSET: offset})
    read = 0
    while True:
        async with asyncio.timeout(_SILENCE_S):
            message = await arrived.get()
        if message is None:
            raise ChannelInvalidStateError("the channel closed")
        read += 1
        if read % (_PREFETCH // 2) == 0:
            await inner.basic_ack(message.delivery_tag or 0, multiple=True)
        properties = message.header.properties
        headers = properties.headers or {}
        if properties.message_id == marker:
            return offset_of(message) + 1
        if _MARKER not in headers:
            _take(take, message)


def _take(take: Callable[[DeliveredMessage], None], message: DeliveredMessage) -> None:
    try:
        take(message)
    except Exception as error:  # noqa: BLE001 - one message must not cost the reading
        # Without its text, which might quote the message.
        log.warning("stream.unreadable_message", error=type(error).__name__)
