"""Ask where a stream ends, what is at an offset, and how many partitions the event log has.

AMQP has no request for any of them. A consumer that begins at `last` gets the last chunk, whose
first offset is at most some hundred messages before the end. An empty stream delivers nothing.
"""

import asyncio
from contextlib import suppress
from typing import Final
from weakref import WeakKeyDictionary

from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity

from aimicromind_schemas.client.connection import TIMEOUT_S, broker_errors
from aimicromind_schemas.client.errors import NoSuchQueue
from aimicromind_schemas.client.streams.reader import StreamUnreadable, reading
from aimicromind_schemas.client.transport.cancelling import uncancelled
from aimicromind_schemas.client.transport.opening import close_channel, kept_channel
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.transport.stream_frames import StreamMessage

_WITHIN_S: Final = 5.0
# The broker's count is of 5 s ago at most. Some do not tell it.
_WITHIN_S_IF_EMPTY: Final = {True: 0.2, False: _WITHIN_S, None: 1.0}
# A message whose header cannot be read has no offset: the next one is taken.
_AHEAD: Final = 10

# By connection, then by the name of the log.
_partitions: WeakKeyDictionary[GuardedConnection, dict[str, int]] = WeakKeyDictionary()


async def partitions_of(connection: GuardedConnection, log: str) -> int:
    """Return how many partitions a super stream has; 0 if there is none.

    It is found once for each connection, because the number cannot change while the log exists.

    Raises:
        BrokerGone: The connection closed.
        BrokerRefused: The user may not read it.
    """
    known = _partitions.setdefault(connection, {})
    if not known.get(log):
        count = 0
        while await _exists(connection, f"{log}-{count}"):
            count += 1
        known[log] = count
    return known[log]


async def is_empty(connection: GuardedConnection, stream: str) -> bool | None:
    """Return whether a stream was empty when the broker last counted, at most 5 s ago.

    Returns:
        None where the broker does not tell this user.

    Raises:
        NoSuchQueue: There is no such stream.
        BrokerGone: The connection closed.
    """
    with broker_errors():
        async with asyncio.timeout(TIMEOUT_S):
            channel = await kept_channel(connection)
            try:
                return not (await channel.queue_declare(stream, passive=True)).message_count
            except ChannelNotFoundEntity as error:
                raise NoSuchQueue(stream) from error
            except ChannelAccessRefused:
                # RabbitMQ 4.3 asks for permission to configure, also for a passive declaration.
                return None
            finally:
                await uncancelled(close_channel(channel))


async def _exists(connection: GuardedConnection, stream: str) -> bool:
    try:
        if await is_empty(connection, stream) is not None:
            return True
        # Whoever may read it needs no other permission.
        async with reading(connection, stream, "next", lambda _: None, prefetch=1):
            return True
    except NoSuchQueue:
        return False
    except StreamUnreadable as error:
        if isinstance(error.__cause__, ChannelNotFoundEntity):
            return False
        with broker_errors():
            raise error.__cause__ or error from error


async def last_chunk(connection: GuardedConnection, stream: str) -> StreamMessage | None:
    """Return the first message of a stream's last chunk; None where there is no message.

    Raises:
        NoSuchQueue: There is no such stream.
        StreamUnreadable, BrokerGone: The connection closed.
    """
    return await _first_at(connection, stream, "last")


async def first_kept(connection: GuardedConnection, stream: str) -> StreamMessage | None:
    """Return the first message that is left of a stream; None where there is no message.

    Raises:
        NoSuchQueue: There is no such stream.
        StreamUnreadable, BrokerGone: The connection closed.
    """
    return await _first_at(connection, stream, "first")


async def _first_at(connection: GuardedConnection, stream: str, place: str) -> StreamMessage | None:
    within_s = _WITHIN_S_IF_EMPTY[await is_empty(connection, stream)]
    return await first_from(connection, stream, place, within_s)


async def first_from(
    connection: GuardedConnection, stream: str, offset: int | str, within_s: float = _WITHIN_S
) -> StreamMessage | None:
    """Return the first message from an offset on; None where none comes in time.

    Raises:
        StreamUnreadable: There is no such stream, or the connection closed.
    """
    came: list[StreamMessage] = []
    arrived = asyncio.Event()

    def take(message: StreamMessage) -> None:
        if message.offset >= 0:
            came.append(message)
            arrived.set()

    async with reading(connection, stream, offset, take, prefetch=_AHEAD) as reader:
        reader.hold()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await reader.until(arrived, from_first=True)
    return came[0] if came else None
