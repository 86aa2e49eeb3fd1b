"""Read the events of chats or jobs that were published before, from a stream such as the event log.

The reading begins where a job's handle says, or at a time, and ends at what is there when it is
opened, and a moment later. It needs a connection that never publishes: a broker with an alarm reads
nothing from one that does.

Invariants:

- An offset beyond the end of a stream is silence, for ever. Thus the end is looked up first. A
  handle beyond it is of a log that was made again: the reading begins at the handle's time.
- Where a stream holds nothing from a time on, RabbitMQ begins with its next message. It finds time
  and message in two steps, and skips what is written between them. Thus such a reading begins at
  the last chunk.
- Up to the last chunk, a broker from 3.13 on leaves out chunks without the chat. Behind it nothing
  is left out, because only what comes tells how far the reading is.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing, contextmanager
from datetime import datetime
from typing import Final, Self

from aiormq.exceptions import AMQPError, ChannelNotFoundEntity

from aimicromind_schemas.client.connection import broker_errors
from aimicromind_schemas.client.delivery import Delivery
from aimicromind_schemas.client.errors import BrokerGone, NoSuchQueue
from aimicromind_schemas.client.past.log_place import CLOCK_SLACK, LogPlace
from aimicromind_schemas.client.streams.passes import Begin, BeginsLate, StreamPass
from aimicromind_schemas.client.streams.probes import first_from, last_chunk
from aimicromind_schemas.client.streams.reader import StreamUnreadable
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.transport.stream_frames import StreamMessage
from aimicromind_schemas.client.wanted import Wanted
from aimicromind_schemas.messages.events import Event

# Messages that were published before, and are still being written.
_SETTLES_S: Final = 1.0
# More would be searched more slowly than they are read.
_MOST_NEEDLES: Final = 16


class LogReading:
    """Reads once. `open` it, iterate over `events` or `deliveries` once, then `close` it.

    Attributes:
        is_cut: Whether events were removed from the log between the handle and what is left.
    """

    def __init__(
        self, connection: GuardedConnection, place: LogPlace, wanted: Sequence[Wanted]
    ) -> None:
        self.is_cut = False
        self._connection = connection
        self._place = place
        self._wanted = wanted
        self._now_s = asyncio.get_running_loop().time() + _SETTLES_S
        self._ends: dict[str, StreamMessage | None] = {}
        self._way = _Way(len(place.streams))
        self._reading: AsyncGenerator[Delivery, None] | None = None

    @classmethod
    async def open(cls, connection: GuardedConnection, place: LogPlace, *wanted: Wanted) -> Self:
        """Look up where the streams end; what is there now, or a second later, will be read.

        Args:
            connection: Two channels are opened on it at a time; it never publishes.
            place: Where to read.
            wanted: Which events; those that one of them selects.

        Raises:
            NoSuchQueue: A stream does not exist.
            BrokerGone: The connection closed.
        """
        opened = cls(connection, place, wanted)
        for stream in place.streams:
            with _client_errors(stream):
                opened._ends[stream] = await last_chunk(connection, stream)
        return opened

    @property
    def progress(self) -> float:
        """How much of what was there at the opening is read, from 0 to 1."""
        return self._way.share

    async def events(self) -> AsyncGenerator[Event, None]:
        """Yield the events in order, and perhaps some that were published later.

        Raises:
            BrokerGone: The connection closed, or the broker shows nothing.
        """
        async with aclosing(self.deliveries()) as deliveries:
            async for delivery in deliveries:
                event = self._selected(delivery)
                if event is not None:
                    yield event

    def deliveries(self) -> AsyncGenerator[Delivery, None]:
        """Yield the messages of the events in order, and others.

        Raises:
            BrokerGone: The connection closed, or the broker shows nothing.
        """
        self._reading = self._read()
        return self._reading

    async def close(self) -> None:
        """Close the channels. Not while somebody waits for the next event."""
        reading, self._reading = self._reading, None
        if reading is not None:
            await reading.aclose()

    async def _read(self) -> AsyncGenerator[Delivery, None]:
        for stream in self._place.streams:
            with _client_errors(stream):
                async with aclosing(self._messages(stream, self._ends[stream])) as messages:
                    async for message in messages:
                        yield Delivery.of_frames(message)
            self._way.next_stream()

    async def _messages(
        self, stream: str, last: StreamMessage | None
    ) -> AsyncGenerator[StreamMessage, None]:
        ways = StreamPass(self._connection, stream, _needles(self._wanted), self._place.prefetch)
        self._way.follow(ways, last)
        if last is not None:
            begin, filters = await self._begin(stream, last), _filters(self._wanted, last)
            try:
                async with aclosing(ways.up_to(begin, last.offset, filters)) as messages:
                    async for message in messages:
                        yield message
            except BeginsLate:
                async with aclosing(ways.up_to(last.offset, last.offset, ())) as messages:
                    async for message in messages:
                        yield message
        seen = ways.position
        rest = ways.to_now(None if seen < 0 else seen, self._now_s)
        async with aclosing(rest) as messages:
            async for message in messages:
                if not 0 <= message.offset <= seen:
                    yield message

    async def _begin(self, stream: str, last: StreamMessage) -> Begin:
        """Return where to begin in a stream that holds at least one message."""
        handle, since = self._place.handle, self._place.since
        # At offset 0 there was no message yet, or the broker had not counted them.
        if handle is not None and 0 < handle.offset <= last.offset:
            first = await first_from(self._connection, stream, handle.offset)
            self.is_cut = first is not None and first.offset > handle.offset
            if first is not None and (self.is_cut or _is_older(first, handle.time + CLOCK_SLACK)):
                return first.offset
        if since is not None and _is_older(last, since - CLOCK_SLACK, unknown=False):
            return last.offset
        return since

    def _selected(self, delivery: Delivery) -> Event | None:
        for wanted in self._wanted:
            if (event := wanted.event(delivery)) is not None:
                return event
        return None


class _Way:
    """How much of the streams is read."""

    def __init__(self, streams: int) -> None:
        self._streams = streams
        self._read = 0
        self._pass: StreamPass | None = None
        self._first = -1
        self._last = 0

    @property
    def share(self) -> float:
        """From 0 to 1."""
        if self._read >= self._streams:
            return 1.0
        position = self._pass.position if self._pass is not None else -1
        if self._first < 0:
            self._first = position
        way = self._last - self._first
        done = 1.0 if way <= 0 else (position - self._first) / way
        return (self._read + (min(1.0, max(0.0, done)) if position >= 0 else 0.0)) / self._streams

    def follow(self, reading: StreamPass, last: StreamMessage | None) -> None:
        """Begin with a stream."""
        self._pass, self._first, self._last = reading, -1, -1 if last is None else last.offset

    def next_stream(self) -> None:
        """Count a stream as read."""
        self._read, self._pass = self._read + 1, None


def _needles(wanted: Sequence[Wanted]) -> tuple[bytes, ...]:
    """Return bytes of which a wanted message's properties hold one; none where all are wanted."""
    needles = {_needle(each) for each in wanted}
    return () if b"" in needles or len(needles) > _MOST_NEEDLES else tuple(needles)


def _needle(wanted: Wanted) -> bytes:
    if wanted.job_id is not None:
        return wanted.job_id.encode() + b":"
    if wanted.chat_id is not None:
        chat = wanted.chat_id.encode()
        return len(chat).to_bytes(4) + chat
    return b""


def _filters(wanted: Sequence[Wanted], last: StreamMessage) -> tuple[str, ...]:
    """Return the chats whose chunks are read: the wanted ones, and that of the last message."""
    chats = {each.chat_id for each in wanted}
    if None in chats or len(chats) > _MOST_NEEDLES or not last.filter_value:
        return ()
    return (*filter(None, chats), last.filter_value)


def _is_older(message: StreamMessage, moment: datetime, *, unknown: bool = True) -> bool:
    return unknown if message.sent_at is None else message.sent_at <= moment


@contextmanager
def _client_errors(stream: str) -> Iterator[None]:
    try:
        yield
    except StreamUnreadable as error:
        cause = error.__cause__
        if isinstance(cause, ChannelNotFoundEntity):
            raise NoSuchQueue(stream) from error
        with broker_errors():
            raise cause if isinstance(cause, AMQPError) else BrokerGone from error
