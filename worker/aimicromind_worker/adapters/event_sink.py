"""Events → RabbitMQ, in order, each confirmed by the broker; a bounded window is on its way.

What a refusal means for a job is decided in `relay`; here a refused event is sent again for
a bounded time, then counted and passed over, so that one bad queue holds up nobody.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import structlog
from aio_pika.abc import AbstractConnection
from aiormq.connection import Connection

from aimicromind_schemas import Names
from aimicromind_worker.adapters.confirm_channel import ConfirmChannel
from aimicromind_worker.adapters.event_frames import EventFrames
from aimicromind_worker.core.exchange import Address
from aimicromind_worker.core.numbering import NumberedEvent

log = structlog.get_logger()

_OPEN_TIMEOUT_S = 10.0
# Used where the broker sets no limit; the one that RabbitMQ ships with.
_FRAME_MAX = 131_072
_RESEND_EVERY_S = 0.25
# A full window opens again when this part of it is left, so that streams do not take turns.
_REOPENS_AT = 0.75


class BrokerSilent(ConnectionError):
    """The broker took events and did not confirm them in time."""

    def __init__(self, waited: timedelta) -> None:
        super().__init__(f"the broker confirmed nothing for {waited.total_seconds():g} s")


@dataclass(frozen=True, slots=True)
class Window:
    """What may be on its way to the broker, unconfirmed, over all jobs.

    Attributes:
        messages: Most messages.
        size_bytes: Most bytes; a message larger than this goes alone.
        confirm_timeout: Longest wait for the confirms of one job's events.
        resend_for: How long a refused event is sent again.
    """

    messages: int = 2048
    size_bytes: int = 32 * 1024 * 1024
    confirm_timeout: timedelta = timedelta(minutes=5)
    resend_for: timedelta = timedelta(seconds=10)


class _Sent:
    """One message on its way. Belongs to the sink."""

    __slots__ = ("event", "frames", "is_end", "lane", "passes_over_at", "returned", "to_journal")

    def __init__(
        self, lane: "EventLane", event: NumberedEvent, frames: bytes, *, is_end: bool
    ) -> None:
        self.lane = lane
        self.event = event
        self.frames = frames
        self.is_end = is_end
        self.passes_over_at: float | None = None
        self.returned = False
        self.to_journal = False


class EventSink:
    """Publishes the events of all jobs over one channel. Use it from the event loop only.

    Attributes:
        passed_over: Events that the broker went on refusing; the refusing queue has a gap.
    """

    def __init__(self, names: Names, window: Window) -> None:
        self.names = names
        self.window = window
        self.passed_over = 0
        self._loop = asyncio.get_running_loop()
        self._in_flight = 0
        self._in_flight_bytes = 0
        self._room = asyncio.Event()
        self._room.set()
        self._refused: deque[_Sent] = deque()
        self._ends: dict[str, _Sent] = {}
        self._channel: ConfirmChannel[_Sent]
        self._frame_max = 0

    @classmethod
    @asynccontextmanager
    async def open(
        cls, connection: AbstractConnection, names: Names, window: Window
    ) -> AsyncIterator["EventSink"]:
        """Open the sink on a connection of its own."""
        sink = cls(names, window)
        transport = connection.transport
        if transport is None or not isinstance(transport.connection, Connection):
            raise ConnectionError("the publishing connection is closed")
        sink._frame_max = transport.connection.connection_tune.frame_max or _FRAME_MAX
        sink._channel = await ConfirmChannel.open_on(
            transport.connection,
            sink._confirmed,
            sink._refuse,
            sink._return,
            _OPEN_TIMEOUT_S,
        )
        yield sink

    async def lost(self) -> None:
        """Wait until the channel closes, then say why.

        Raises:
            ConnectionError: Always, once the channel is closed.
        """
        try:
            await self._channel.closing
        except Exception as error:
            raise ConnectionError(f"the publishing channel closed: {error}") from error
        raise ConnectionError("the publishing channel closed")

    def lane(self, address: Address) -> "EventLane":
        """Open a lane for the events of one attempt."""
        frames = EventFrames(address, self.names.events, self._channel.number, self._frame_max)
        return EventLane(self, frames, address.reply_to)

    @property
    def full(self) -> bool:
        """Whether nothing more should be published now."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Wait until the window has emptied far enough; first come, first served."""
        while not self._room.is_set():
            await self._room.wait()

    def _send(self, sent: _Sent) -> None:
        self._in_flight += 1
        self._in_flight_bytes += len(sent.frames)
        window = self.window
        if self._in_flight >= window.messages or self._in_flight_bytes >= window.size_bytes:
            self._room.clear()
        if sent.is_end:
            self._ends[sent.event.message_id.decode()] = sent
        self._channel.send(sent.frames, sent)

    def _landed(self, sent: _Sent) -> None:
        self._in_flight -= 1
        self._in_flight_bytes -= len(sent.frames)
        if (
            not self._room.is_set()
            and self._in_flight <= self.window.messages * _REOPENS_AT
            and self._in_flight_bytes <= self.window.size_bytes * _REOPENS_AT
        ):
            self._room.set()

    def _confirmed(self, sent: _Sent) -> None:
        if sent.returned:
            self._refuse(sent)
            return
        self._landed(sent)
        if sent.is_end:
            self._ends.pop(sent.event.message_id.decode(), None)
        sent.lane.settled()

    def _return(self, message_id: str) -> None:
        """Note that no queue took an `end`; its confirm, which follows, counts as a refusal."""
        if message_id in self._ends:
            self._ends[message_id].returned = True

    def _refuse(self, sent: _Sent) -> None:
        self._landed(sent)
        sent.returned = False
        now = self._loop.time()
        if sent.passes_over_at is None:
            sent.passes_over_at = now + self.window.resend_for.total_seconds()
            sent.lane.refused += 1
        elif now >= sent.passes_over_at and not self._pass_over(sent):
            return
        if not self._refused:
            self._loop.call_later(_RESEND_EVERY_S, self._resend)
        self._refused.append(sent)

    def _pass_over(self, sent: _Sent) -> bool:
        """Give up on a refused event; an `end` goes straight to the journal instead.

        Returns:
            Whether there is something left to send.
        """
        if not sent.to_journal:
            self.passed_over += 1
            log.warning("event.passed_over", event_name=sent.event.name, seq=sent.event.seq)
        if not sent.is_end:
            sent.lane.settled()
            return False
        sent.to_journal = True
        sent.frames = sent.lane.frames_to_queue(self.names.journal, sent.event)
        return True

    def _resend(self) -> None:
        again, self._refused = self._refused, deque()
        for sent in again:
            self._send(sent)


class EventLane:
    """The events of one attempt, in order. Use it from the attempt's task only.

    Attributes:
        refused: Events of this lane that the broker refused at least once.
    """

    def __init__(self, sink: EventSink, frames: EventFrames, reply_to: str | None) -> None:
        self.refused = 0
        self._sink = sink
        self._frames = frames
        self._reply_to = frames.to_queue(reply_to) if reply_to else None
        self._unsettled = 0
        self._idle: asyncio.Event = asyncio.Event()

    @property
    def full(self) -> bool:
        """Whether to wait for `room` before the next event."""
        return self._sink.full

    async def room(self) -> None:
        """Wait until another event may be published."""
        await self._sink.room()

    def publish(self, event: NumberedEvent) -> None:
        """Send one event to its chat, and a copy to the job's reply_to."""
        content = self._frames.content(event)
        to_chat = self._frames.to_chat(event.name) + content
        self._send(_Sent(self, event, to_chat, is_end=event.name == "end"))
        if self._reply_to is not None:
            self._send(_Sent(self, event, self._reply_to + content, is_end=False))

    async def confirmed(self) -> None:
        """Wait until the broker has answered for every event published so far.

        Raises:
            BrokerSilent: It did not within the window's time.
        """
        limit = self._sink.window.confirm_timeout
        self._idle.clear()
        try:
            async with asyncio.timeout(limit.total_seconds()):
                while self._unsettled:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError as error:
            raise BrokerSilent(limit) from error

    def settled(self) -> None:
        """Note that one event needs no more sending. For the sink."""
        self._unsettled -= 1
        if not self._unsettled:
            self._idle.set()

    def frames_to_queue(self, queue: str, event: NumberedEvent) -> bytes:
        """Write an event's frames for one queue, which must be there. For the sink."""
        return self._frames.to_queue(queue, mandatory=True) + self._frames.content(event)

    def _send(self, sent: _Sent) -> None:
        self._unsettled += 1
        self._sink._send(sent)  # noqa: SLF001 - a lane is a part of its sink
