"""The event log and a live queue as one sequence, over one connection.

Live events come by an exclusive queue bound to the chat. The log is read only for what was
published before, until it meets the live queue; then it is left. The log alone would do, since a
stream delivers live as well: measured on RabbitMQ 3.10 (300 events, two busy cores) a median of
2.0 ms after publishing, and 1.8 ms by a queue. But before 3.13 a broker cannot filter a stream,
from 3.13 on it leaves out whole chunks only, and each event of another chat costs the reader
0.07 ms of CPU: 100 followers beside 5000 events a second would need 35 cores.

The two meet where the live queue's first event has been read from the log; in a chat that is
silent while others are not, where the log was a second after the queue had been bound.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Self

from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage

from aimicromind_schemas.client.log_reading import LogReading, place_of
from aimicromind_schemas.client.subscription import Fresh, Subscription, event_in
from aimicromind_schemas.messages.events import Event

_CHAT: Final = "x-stream-filter-value"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which events.

    Attributes:
        exchange: Where they are published.
        binding: Which of them.
        chat_id: Their chat; None: several.
        job_id: Their job; None: several.
    """

    exchange: str
    binding: str
    chat_id: str | None
    job_id: str | None

    def event(self, message: DeliveredMessage) -> Event | None:
        """Read a message; None: it is not wanted, or no event."""
        headers = message.header.properties.headers or {}
        if self.chat_id is not None and headers.get(_CHAT) != self.chat_id:
            return None
        event = event_in(message)
        return event if event is not None and self.job_id in {None, event.job_id} else None


class Joined:
    """What `open` gives; iterate over `events` once, then close it."""

    def __init__(self, wanted: Wanted, live: Subscription, log: LogReading | None) -> None:
        self._wanted = wanted
        self._live = live
        self._log = log
        self._edge: asyncio.Task[int] | None = None

    @classmethod
    async def open(
        cls,
        connection: AbstractConnection,
        wanted: Wanted,
        stream: str | None,
        since: datetime | None,
    ) -> Self:
        """Begin: nothing that is published from now on is missed.

        Args:
            connection: It gets two channels.
            wanted: Which events.
            stream: Where to read what was published before; None: nowhere.
            since: From then on, roughly; None: from the beginning of the stream.

        Raises:
            NothingToListenTo: There is no exchange of events.
            NoSuchQueue: There is no such stream.
            BrokerGone: The connection closed.
            BrokerRefused: The user lacks a permission.
        """
        live = await Subscription.open(
            connection, Fresh("", wanted.exchange, (wanted.binding,), {})
        )
        if stream is None:
            return cls(wanted, live, None)
        try:
            log = await LogReading.open(connection, stream, since, wanted.chat_id)
        except BaseException:
            await live.close()
            raise
        return cls(wanted, live, log)

    async def events(self, knows: Callable[[Event], bool]) -> AsyncGenerator[Event, None]:
        """Yield the events in order; some of them twice where log and queue meet.

        Args:
            knows: Tells whether an event was given before.

        Raises:
            BrokerGone: The connection closed.
        """
        if self._log is not None:
            async for event in self._logged(self._log, knows):
                yield event
            await self._leave_log()
        while True:
            came = self._wanted.event(await self._live.next())
            if came is not None:
                yield came

    async def close(self) -> None:
        """Leave nothing on the broker."""
        await self._leave_log()
        await self._live.close()

    async def _logged(
        self, log: LogReading, knows: Callable[[Event], bool]
    ) -> AsyncGenerator[Event, None]:
        await log.begin()
        edge = self._edge = asyncio.create_task(log.edge())
        while True:
            message = await log.next()
            if edge.done() and place_of(message) >= edge.result():
                return
            await log.taken(message)
            event = self._wanted.event(message)
            if event is None:
                continue
            yield event
            ahead = await self._ahead()
            if ahead is not None and knows(ahead):
                return

    async def _ahead(self) -> Event | None:
        """Return what the live queue will give next, as far as that has come."""
        while (first := self._live.peek()) is not None:
            event = self._wanted.event(first)
            if event is not None:
                return event
            await self._live.next()
        return None

    async def _leave_log(self) -> None:
        edge, self._edge = self._edge, None
        log, self._log = self._log, None
        if edge is not None:
            edge.cancel()
            await asyncio.wait((edge,))
            if not edge.cancelled():
                # Nobody needs to know any more why it failed.
                edge.exception()
        if log is not None:
            await log.close()
