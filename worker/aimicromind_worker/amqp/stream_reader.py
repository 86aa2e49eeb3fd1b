"""Read a RabbitMQ stream from a time or offset up to its present end.

Invariants:

- AMQP does not report the end of a stream. Each reading publishes a marker and reads up to it.
- The reading is complete: it returns only once it has seen its marker, and raises otherwise.
- A time or offset is a lower bound: the broker delivers whole chunks, thus earlier messages, too.
- A message that cannot be taken is logged and skipped; it does not end the reading.
- Each wait has a deadline of at most 30 s. The connection only consumes, and never publishes.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from uuid import uuid4

import aio_pika
import structlog
from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel, DeliveredMessage
from aiormq.exceptions import AMQPError, ChannelInvalidStateError

from aimicromind_schemas.client.transport.opening import open_channel
from aimicromind_worker.amqp.republishing import Outgoing
from aimicromind_worker.amqp.waiting import unless_cancelled

log = structlog.get_logger()

_SILENCE_S = 30.0
# A broker delivers existing messages at once.
_FIRST_WITHIN_S = 5.0
_CLOSE_S = 5.0
_PREFETCH = 500
_MARKER = "x-aimicromind-marker"
_OFFSET = "x-stream-offset"
_EARLIEST = datetime(1971, 1, 1, tzinfo=UTC)


class StreamUnreadable(ConnectionError):
    """A stream could not be read up to its present end."""

    def __init__(self, stream: str, reason: str) -> None:
        super().__init__(f"{stream} could not be read: {reason}")


class StreamSilent(StreamUnreadable):
    """The broker answers, and delivers nothing of the stream; it may do so later."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream, "the broker delivers nothing of it")


class NothingThere(StreamUnreadable):
    """The broker delivers nothing from a time or offset, which may be after the stream's end."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream, "the broker delivers nothing from that time or offset")


async def read_up_to_now(
    connection: AbstractConnection,
    outgoing: Outgoing,
    stream: str,
    since: datetime | int | None,
    take: Callable[[DeliveredMessage], None],
) -> int:
    """Read all messages that are in a stream when the reading begins, in their order.

    Args:
        connection: The connection on which a channel is opened for the reading.
        outgoing: The publisher of the marker, which waits while the broker has an alarm.
        stream: The name of the queue.
        since: The time, aware, or the offset to begin at; earlier messages may come, too. None: the
            beginning of the stream.
        take: A callback for each message; an error of it is logged.

    Returns:
        The offset at which the next reading can begin.

    Raises:
        NothingThere: Nothing came from `since`; read from the beginning. The clock of that time may
            be ahead of the broker's, or the offset may be of a deleted stream of that name.
        StreamSilent: The broker delivered nothing for 30 s.
        StreamUnreadable: There is no such stream, or the connection closed.
    """
    marker = aio_pika.Message(
        b"", message_id=str(uuid4()), headers={_MARKER: True}, timestamp=datetime.now(UTC)
    )
    with _unreadable(stream):
        await outgoing.publish(marker, "", stream)
        return await _read(connection, stream, _offset(since), marker.message_id, take)


async def time_of_first(connection: AbstractConnection, stream: str) -> datetime | None:
    """Return the timestamp of the oldest message of a stream that is not empty.

    Returns:
        The time, aware; now if that message has none; None if no message was removed yet.

    Raises:
        StreamSilent: The broker delivers nothing of the stream.
        StreamUnreadable: There is no such stream, or the connection closed.
    """
    with _unreadable(stream):
        async with _arriving(connection, stream, "first") as following:
            message = await following(_FIRST_WITHIN_S)
            if offset_of(message) == 0:
                return None
            sent_at = message.header.properties.timestamp or datetime.now(UTC)
            return sent_at if sent_at.tzinfo else sent_at.replace(tzinfo=UTC)


async def read_one(connection: AbstractConnection, stream: str, offset: int) -> bytes | None:
    """Return the body of the message at an offset; None if it was removed.

    Raises:
        StreamUnreadable: There is no such stream, or the connection closed.
    """
    with _unreadable(stream):
        async with _arriving(connection, stream, offset) as following:
            # The broker begins with the chunk that holds the offset, or with the oldest one left.
            with suppress(TimeoutError):
                while offset_of(message := await following(_FIRST_WITHIN_S)) < offset:
                    pass
                return message.body if offset_of(message) == offset else None
    return None


def offset_of(message: DeliveredMessage) -> int:
    """Return a message's offset in its stream; -1 if it has no readable one."""
    offset = (message.header.properties.headers or {}).get(_OFFSET)
    return offset if isinstance(offset, int) else -1


def _offset(since: datetime | int | None) -> datetime | int | str:
    too_early = since is None or (isinstance(since, datetime) and since < _EARLIEST)
    return "first" if since is None or too_early else since


async def _read(
    connection: AbstractConnection,
    stream: str,
    offset: datetime | int | str,
    marker: str | None,
    take: Callable[[DeliveredMessage], None],
) -> int:
    async with _arriving(connection, stream, offset) as following:
        try:
            message = await following(_SILENCE_S if offset == "first" else _FIRST_WITHIN_S)
        except TimeoutError as error:
            raise (StreamSilent if offset == "first" else NothingThere)(stream) from error
        while message.header.properties.message_id != marker:
            if _MARKER not in (message.header.properties.headers or {}):
                _take(take, message)
            message = await following(_SILENCE_S)
        return offset_of(message) + 1


def _take(take: Callable[[DeliveredMessage], None], message: DeliveredMessage) -> None:
    try:
        take(message)
    except Exception as error:  # noqa: BLE001 - one message must not cost the reading
        # The error's text might quote the message.
        log.warning("stream.unreadable_message", error=type(error).__name__)


@contextmanager
def _unreadable(stream: str) -> Iterator[None]:
    """Turn the errors of a reading in the body into `StreamUnreadable`."""
    try:
        yield
    except TimeoutError as error:
        raise StreamSilent(stream) from error
    except (AMQPError, ChannelInvalidStateError, RuntimeError) as error:
        # aio_pika raises RuntimeError if the connection has closed.
        raise StreamUnreadable(stream, str(error) or type(error).__name__) from error


@asynccontextmanager
async def _arriving(
    connection: AbstractConnection, stream: str, offset: datetime | int | str
) -> AsyncIterator[Callable[[float], Awaitable[DeliveredMessage]]]:
    """Consume a stream from an offset on while the body runs.

    Yields:
        A function that waits for the next message, for a number of seconds at most.

    Raises:
        TimeoutError: The broker or the next message did not come in time.
    """
    arrived: asyncio.Queue[DeliveredMessage | None] = asyncio.Queue()
    async with _channel(connection) as inner:
        inner.closing.add_done_callback(lambda _: arrived.put_nowait(None))
        async with asyncio.timeout(_SILENCE_S):
            await inner.basic_qos(prefetch_count=_PREFETCH)
            # The consumer of aio_pika takes twice the time for each message.
            await inner.basic_consume(stream, arrived.put, arguments={_OFFSET: offset})
        read = 0

        async def following(within_s: float) -> DeliveredMessage:
            nonlocal read
            async with asyncio.timeout(within_s):
                message = await arrived.get()
            if message is None:
                raise ChannelInvalidStateError("the channel closed")
            read += 1
            if read % (_PREFETCH // 2) == 0:
                await inner.basic_ack(message.delivery_tag or 0, multiple=True)
            return message

        yield following


@asynccontextmanager
async def _channel(connection: AbstractConnection) -> AsyncIterator[AbstractChannel]:
    """Open a channel for the body; wait at most 5 s for its close."""
    async with asyncio.timeout(_SILENCE_S):
        channel = await open_channel(connection)
    try:
        yield channel
    finally:
        with suppress(AMQPError, ChannelInvalidStateError, TimeoutError, RuntimeError):
            async with asyncio.timeout(_CLOSE_S):
                await channel.close()
        unless_cancelled()
