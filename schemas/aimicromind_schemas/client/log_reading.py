"""Read a stream from a time on, without missing a message.

Where a stream holds nothing from that time on, RabbitMQ begins with its next message. It finds the
time and the next message in two steps, and skips what is written between them. With 3.10.8, 9 of
2240 messages were skipped that were published into an empty stream at that moment.

Invariants:

- `begin` asks for the first offset a second time, on a channel of its own.
- If the consumer began later than that offset, it is opened again, at that offset.
- Nothing is returned before. Thus the first message is the first one from the time on.
"""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final, Self

from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage

from aimicromind_schemas.client.subscription import Subscription

_SETTLES_S: Final = 1.0
_OFFSET: Final = "x-stream-offset"
_EARLIEST: Final = datetime(1971, 1, 1, tzinfo=UTC)


class LogReading:
    """Reads one stream. `open` it, `begin` before the first `next`, then `close` it."""

    def __init__(
        self,
        connection: AbstractConnection,
        stream: str,
        since: datetime | None,
        chat_id: str | None,
        reading: Subscription,
    ) -> None:
        self._connection = connection
        self._stream = stream
        self._since = since
        self._chat_id = chat_id
        self._reading = reading

    @classmethod
    async def open(
        cls,
        connection: AbstractConnection,
        stream: str,
        since: datetime | None,
        chat_id: str | None,
    ) -> Self:
        """Consume a stream.

        Args:
            connection: A channel is opened on it.
            stream: Name of the stream.
            since: Where to begin, to the precision of a stream's chunks; None for its beginning.
            chat_id: Chat to filter by, None for all. A broker before 3.13 ignores it, and a later
                one sends messages of other chats in the same chunk: filter again.

        Raises:
            NoSuchQueue: The stream does not exist.
            BrokerGone: The connection closed.
            BrokerRefused: The user lacks a permission.
        """
        if since is not None and since < _EARLIEST:
            since = None
        reading = await Subscription.open(
            connection, stream, consumer_arguments("first" if since is None else since, chat_id)
        )
        return cls(connection, stream, since, chat_id, reading)

    async def begin(self) -> None:
        """Wait until the first message to be read has been delivered.

        Where nothing is delivered for a second, whatever was published before is in the stream.

        Raises:
            BrokerGone: The connection closed.
        """
        if self._since is None:
            return
        began_at = None
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLES_S):
                began_at = offset_of(await self._reading.arrives())
        if began_at == 0:
            return
        first = await self._offset(self._since, self._chat_id)
        if began_at is None and (delivered := self._reading.peek()) is not None:
            began_at = offset_of(delivered)
        if began_at is None or began_at > first:
            await self._reading.close()
            self._reading = await Subscription.open(
                self._connection, self._stream, consumer_arguments(first, self._chat_id)
            )

    async def next(self) -> DeliveredMessage:
        """Wait for the next message.

        Raises:
            BrokerGone: The channel closed.
        """
        return await self._reading.next()

    async def acknowledge(self, message: DeliveredMessage) -> None:
        """Acknowledge a message, together with others: a stream needs that for its prefetch only.

        Raises:
            BrokerGone: The channel closed.
        """
        await self._reading.acknowledge(message, at_once=False)

    async def end(self) -> int:
        """Return the offset of the first message written a second from now; wait for one.

        The second covers messages that were published before, and are still being written.

        Raises:
            BrokerGone: The connection closed.
        """
        await asyncio.sleep(_SETTLES_S)
        return await self._offset("next", None)

    async def close(self) -> None:
        """Close the channel."""
        await self._reading.close()

    async def _offset(self, offset: str | datetime, chat_id: str | None) -> int:
        """Return the offset of the first message from there on; wait for one."""
        looking = await Subscription.open(
            self._connection, self._stream, consumer_arguments(offset, chat_id), prefetch=1
        )
        try:
            return offset_of(await looking.next())
        finally:
            await looking.close()


def offset_of(message: DeliveredMessage) -> int:
    """Return a message's offset in its stream; -1 where the header is missing or no integer."""
    offset = (message.header.properties.headers or {}).get(_OFFSET)
    return offset if isinstance(offset, int) else -1


def consumer_arguments(offset: str | int | datetime, chat_id: str | None) -> dict[str, Any]:
    """Return the arguments of a consumer that reads a stream.

    Args:
        offset: As `x-stream-offset` takes it: `first`, `next`, an offset, a time.
        chat_id: Chat to filter by; a broker before 3.13 ignores the filter.
    """
    if chat_id is None:
        return {_OFFSET: offset}
    return {
        _OFFSET: offset,
        "x-stream-filter": [chat_id],
        "x-stream-match-unfiltered": True,
    }
