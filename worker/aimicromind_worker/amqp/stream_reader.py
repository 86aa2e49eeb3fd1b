"""A stream → what it holds up to now.

A stream has no end that AMQP would tell, so each reading writes a marker and reads up to it.
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

from aimicromind_schemas.client.transport.channel import open_channel
from aimicromind_worker.amqp.republishing import Outgoing
from aimicromind_worker.amqp.waiting import unless_cancelled

log = structlog.get_logger()

_SILENCE_S = 30.0
# What is there begins to come at once.
_FIRST_WITHIN_S = 5.0
_CLOSE_S = 5.0
_PREFETCH = 500
_MARKER = "x-aimicromind-marker"
_OFFSET = "x-stream-offset"
_EARLIEST = datetime(1971, 1, 1, tzinfo=UTC)


class StreamUnreadable(ConnectionError):
    """A stream could not be read up to now."""

    def __init__(self, stream: str, reason: str) -> None:
        super().__init__(f"{stream} could not be read: {reason}")


class StreamSilent(StreamUnreadable):
    """The broker answers, and shows nothing of the stream; it may later."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream, "the broker shows nothing of it")


class NothingThere(StreamUnreadable):
    """Nothing comes from where the reading was to begin: it may be beyond the stream's end."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream, "nothing comes from where it was to begin")


async def read_up_to_now(
    connection: AbstractConnection,
    outgoing: Outgoing,
    stream: str,
    since: datetime | int | None,
    take: Callable[[DeliveredMessage], None],
) -> int:
    """Return each message of a stream that was there when the reading began, in their order.

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
        NothingThere: Nothing came from there. Read from the beginning: the clock that the time is
            of may be ahead of the broker's, and the stream may be another than the offset is of.
        StreamSilent: The broker fell silent for 30 s.
        StreamUnreadable: There is no such stream, or the connection closed.
    """
    marker = aio_pika.Message(
        b"", message_id=str(uuid4()), headers={_MARKER: True}, timestamp=datetime.now(UTC)
    )
    with _unreadable(stream):
        await outgoing.publish(marker, "", stream)
        return await _read(connection, stream, _offset(since), marker.message_id, take)


async def time_of_first(connection: AbstractConnection, stream: str) -> datetime | None:
    """Return when the first message was sent that is left of a stream; it has one at least.

    Returns:
        None where nothing was removed from it yet; now where that message does not tell its time.

    Raises:
        StreamSilent: It does not come.
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
    """Return the body of the message at an offset; None if it is not there any more.

    Raises:
        StreamUnreadable: There is no such stream, or the connection closed.
    """
    with _unreadable(stream):
        async with _arriving(connection, stream, offset) as following:
            # It begins with the chunk that has the offset, or with the first that is left.
            with suppress(TimeoutError):
                while offset_of(message := await following(_FIRST_WITHIN_S)) < offset:
                    pass
                return message.body if offset_of(message) == offset else None
    return None


def offset_of(message: DeliveredMessage) -> int:
    """Return a message's place in its stream; -1 where it has none that can be read."""
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
        # Without its text, which might quote the message.
        log.warning("stream.unreadable_message", error=type(error).__name__)


@contextmanager
def _unreadable(stream: str) -> Iterator[None]:
    """Turn what a reading fails by into `StreamUnreadable`."""
    try:
        yield
    except TimeoutError as error:
        raise StreamSilent(stream) from error
    except (AMQPError, ChannelInvalidStateError, RuntimeError) as error:
        # The last is how aio_pika tells that the connection has closed.
        raise StreamUnreadable(stream, str(error) or type(error).__name__) from error


@asynccontextmanager
async def _arriving(
    connection: AbstractConnection, stream: str, offset: datetime | int | str
) -> AsyncIterator[Callable[[float], Awaitable[DeliveredMessage]]]:
    """Read a stream from an offset on; the body awaits the next message, within so many seconds.

    Raises:
        TimeoutError: It does not come in time; also from what the body awaits.
    """
    arrived: asyncio.Queue[DeliveredMessage | None] = asyncio.Queue()
    async with _channel(connection) as inner:
        inner.closing.add_done_callback(lambda _: arrived.put_nowait(None))
        async with asyncio.timeout(_SILENCE_S):
            await inner.basic_qos(prefetch_count=_PREFETCH)
            # aio_pika's own consumer takes twice the time for each message.
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
    """Open a channel for the body; do not wait for a broker that ignores its close."""
    async with asyncio.timeout(_SILENCE_S):
        channel = await open_channel(connection)
    try:
        yield channel
    finally:
        with suppress(AMQPError, ChannelInvalidStateError, TimeoutError, RuntimeError):
            async with asyncio.timeout(_CLOSE_S):
                await channel.close()
        unless_cancelled()
