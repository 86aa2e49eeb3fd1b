"""A stream from a time on, with nothing left out.

A stream that holds nothing from the time asked for on is read from its next message on. RabbitMQ
looks for that time and for the next message in two steps, and passes over what is written between
them (3.10.8: 9 of 2240 messages that were published into an empty stream at that moment). So the
place is looked up a second time before anything is given.
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
    """What `open` gives; `begin` it before the first `next`, close it at the end."""

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
            connection: It gets a channel for this.
            stream: Its name.
            since: From then on, roughly; None: from the beginning.
            chat_id: The chat whose messages are wanted, None: all. A broker before 3.13 sends all.

        Raises:
            NoSuchQueue: There is no such stream.
            BrokerGone: The connection closed.
            BrokerRefused: The user lacks a permission.
        """
        if since is not None and since < _EARLIEST:
            since = None
        reading = await Subscription.open(
            connection, stream, asked("first" if since is None else since, chat_id)
        )
        return cls(connection, stream, since, chat_id, reading)

    async def begin(self) -> None:
        """Wait until the next message is the one that reading begins with.

        Where nothing comes for a second, what was published before is in the stream by now.

        Raises:
            BrokerGone: The connection closed.
        """
        if self._since is None:
            return
        began_at = None
        with suppress(TimeoutError):
            async with asyncio.timeout(_SETTLES_S):
                began_at = place_of(await self._reading.arrives())
        if began_at == 0:
            return
        first = await self._place(self._since, self._chat_id)
        if began_at is None and (came := self._reading.peek()) is not None:
            began_at = place_of(came)
        if began_at is None or began_at > first:
            await self._reading.close()
            self._reading = await Subscription.open(
                self._connection, self._stream, asked(first, self._chat_id)
            )

    async def next(self) -> DeliveredMessage:
        """Wait for the next message.

        Raises:
            BrokerGone: There will be none.
        """
        return await self._reading.next()

    async def taken(self, message: DeliveredMessage) -> None:
        """Acknowledge, once enough messages have been read.

        Raises:
            BrokerGone: The channel closed.
        """
        await self._reading.taken(message, at_once=False)

    async def edge(self) -> int:
        """Find where the stream is in a second; where nothing is added to it, wait.

        What is published before this is called may reach the stream a little later.

        Raises:
            BrokerGone: The connection closed.
        """
        await asyncio.sleep(_SETTLES_S)
        return await self._place("next", None)

    async def close(self) -> None:
        """Leave nothing on the broker."""
        await self._reading.close()

    async def _place(self, offset: str | datetime, chat_id: str | None) -> int:
        """Find the first message from there on; where there is none, wait for it."""
        looking = await Subscription.open(
            self._connection, self._stream, asked(offset, chat_id), prefetch=1
        )
        try:
            return place_of(await looking.next())
        finally:
            await looking.close()


def place_of(message: DeliveredMessage) -> int:
    """Return a message's place in its stream; -1 where it has none that can be read."""
    offset = (message.header.properties.headers or {}).get(_OFFSET)
    return offset if isinstance(offset, int) else -1


def asked(offset: str | int | datetime, chat_id: str | None) -> dict[str, Any]:
    """Return which part of a stream to send; a broker before 3.13 passes over the filter."""
    if chat_id is None:
        return {_OFFSET: offset}
    return {
        _OFFSET: offset,
        "x-stream-filter": [chat_id],
        "x-stream-match-unfiltered": True,
    }
