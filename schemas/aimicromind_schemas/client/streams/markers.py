"""Read a stream up to now.

AMQP does not tell where a stream ends. Thus a reading publishes a marker, and ends where it comes.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import aio_pika
from aiormq.exceptions import DeliveryError

from aimicromind_schemas.client.streams.probes import first_from
from aimicromind_schemas.client.streams.reader import (
    NothingThere,
    StreamUnreadable,
    Take,
    reading,
)
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.transport.stream_frames import StreamMessage

MARKER_HEADER: Final = "x-aimicromind-marker"
"""Header of a message that says nothing: it marks where a reading ends."""

Publish = Callable[[aio_pika.Message, str, str], Awaitable[None]]


async def read_up_to_now(
    connection: GuardedConnection,
    publish: Publish,
    stream: str,
    since: datetime | int | None,
    take: Take,
    *,
    wanted: tuple[bytes, ...] = (),
) -> None:
    """Read each message of a stream that was there when the reading began, in their order.

    Args:
        connection: See `reading`.
        publish: Publishes the marker, and returns once that is confirmed.
        stream: The queue's name.
        since: A time (aware; some earlier messages come, too) or an offset; None: the beginning.
        take: Gets the messages.
        wanted: See `reading`.

    Raises:
        NothingThere: Nothing came from there. Read from the beginning: the clock that the time is
            of may be ahead of the broker's, and the stream may be another than the offset is of.
        StreamSilent: The broker fell silent for 30 s.
        StreamUnreadable: There is no such stream, or the connection closed.
    """
    marker, passed = marker_message(), asyncio.Event()
    identity = (marker.message_id or "").encode()

    def take_until_marker(message: StreamMessage) -> None:
        if identity in message.header:
            passed.set()
        elif not passed.is_set() and (message.body or not is_marker(message)):
            take(message)

    await publish_marker(publish, marker, stream)
    needles = (*wanted, identity) if wanted else ()
    async with reading(connection, stream, since, take_until_marker, wanted=needles) as reader:
        await reader.until(passed, from_first=since is None)


async def time_of_first(connection: GuardedConnection, stream: str) -> datetime | None:
    """Return when the first message was sent that is left of a stream; it has one at least.

    Returns:
        None where nothing was removed from it yet; now where that message does not tell its time.

    Raises:
        NothingThere: It does not come within 5 s.
        StreamUnreadable: There is no such stream, or the connection closed.
    """
    first = await first_from(connection, stream, "first")
    if first is None:
        raise NothingThere(stream)
    return None if first.offset == 0 else first.sent_at or datetime.now(UTC)


async def publish_marker(publish: Publish, marker: aio_pika.Message, stream: str) -> None:
    """Publish a marker to a stream.

    Raises:
        StreamUnreadable: There is no such stream, or it takes no messages.
    """
    try:
        await publish(marker, "", stream)
    except DeliveryError as error:
        raise StreamUnreadable(stream, "it is not there, or takes no messages") from error


def marker_message() -> aio_pika.Message:
    """Return a message that marks a place in a stream."""
    return aio_pika.Message(
        b"", message_id=str(uuid4()), headers={MARKER_HEADER: True}, timestamp=datetime.now(UTC)
    )


def is_marker(message: StreamMessage) -> bool:
    """Return whether a message is a marker: it has no body, and a header that says so."""
    return not message.body and MARKER_HEADER.encode() in message.header
