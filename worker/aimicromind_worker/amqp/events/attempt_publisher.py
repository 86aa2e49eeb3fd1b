"""Publish the events of each attempt in order, and their copies, and wait for the confirms.

`message_publisher` sends them to the broker, together with those of all other attempts.
"""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from functools import partial
from time import monotonic
from typing import Any

import structlog
from typing_extensions import override

from aimicromind_schemas import Names
from aimicromind_worker.amqp.event_log import EventLog
from aimicromind_worker.amqp.events.backpressure import AttemptMessages, Window
from aimicromind_worker.amqp.events.confirm_channel import CHANNEL_NUMBER
from aimicromind_worker.amqp.events.frames import EventFrames
from aimicromind_worker.amqp.events.message_publisher import MessagePublisher
from aimicromind_worker.amqp.events.nack_period import NackPeriod
from aimicromind_worker.amqp.events.resend_buffer import PendingMessage, ResendBuffer
from aimicromind_worker.amqp.events.snapshots import SnapshotMessage
from aimicromind_worker.amqp.waiting import within
from aimicromind_worker.core.endpoint.exchange import Address
from aimicromind_worker.core.job.numbering import NumberedEvent
from aimicromind_worker.telemetry.event_counts import EventCounts

log = structlog.get_logger()

# The last event of an attempt, as far as this worker is concerned.
_LAST = {"end", "retry"}
# How long one attempt waits in all for its copies: while the window is full, and at its end.
_PATIENCE_S = 5.0


class BrokerSilent(ConnectionError):
    """The broker took events and did not confirm them in time."""

    def __init__(self, waited: timedelta) -> None:
        super().__init__(f"the broker confirmed nothing for {waited.total_seconds():g} s")


class CopyPublisher:
    """Publishes the copies of one attempt's events, in order; drops them while the window is full.

    Use it from the attempt's task only.
    """

    def __init__(
        self, publisher: MessagePublisher, frames: EventFrames, buffer: ResendBuffer, queue: str
    ) -> None:
        """Begin with nothing.

        Args:
            publisher: Sends the copies.
            frames: Writes the attempt's events.
            buffer: Keeps the order of all copies for the queue.
            queue: Gets the copies.
        """
        self._publisher = publisher
        self._buffer = buffer
        self._messages = AttemptMessages(frames)
        self._publish_frame = frames.to_queue(queue)
        self._patience_s = _PATIENCE_S
        self._has_dropped = False

    @property
    def full(self) -> bool:
        """Whether to wait for `room` before the next event."""
        return self._publisher.backpressure.is_full and self._patience_s > 0

    async def room(self) -> None:
        """Wait until a copy may be published, or for as long as the attempt waits for copies."""
        await self._patiently(self._publisher.backpressure.wait())

    async def confirmed(self) -> None:
        """Wait for the broker's answers, or for as long as the attempt waits for copies."""
        await self._patiently(self._messages.settled())

    def publish(self, event: NumberedEvent, content: bytes) -> None:
        """Publish a copy of one event, whose header and body frames are given."""
        if self._messages.fault is None and not self._publisher.backpressure.is_full:
            frames = self._publish_frame + content
            self._publisher.publish(PendingMessage(self._messages, self._buffer, event, frames))
            return
        self._publisher.counts.passed_over += 1
        if not self._has_dropped:
            self._has_dropped = True
            log.warning("copies.dropped", event_name=event.name, seq=event.seq)

    async def _patiently(self, wait: Coroutine[Any, Any, None]) -> None:
        began = monotonic()
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, self._patience_s)):
                    await wait
        finally:
            self._patience_s -= monotonic() - began


class AttemptPublisher:
    """Publishes the events of one attempt, in order. Use it from the attempt's task only."""

    def __init__(
        self,
        publisher: MessagePublisher,
        frames: EventFrames,
        buffer: ResendBuffer,
        copies: CopyPublisher | None,
        handle: Callable[[], str | None] = lambda: None,
    ) -> None:
        """Begin with nothing.

        Args:
            publisher: Sends the events.
            frames: Writes them.
            buffer: Keeps the order of all events of the chat.
            copies: Publishes their copies; None where nobody asks for any.
            handle: Returns the handle of a job whose first event is published next.
        """
        self._handle = handle
        self._publisher = publisher
        self._frames = frames
        self._buffer = buffer
        self._copies = copies
        self._messages = AttemptMessages(frames)
        self._last = ""

    @property
    def full(self) -> bool:
        """Whether to wait for `room` before the next event."""
        return self._publisher.backpressure.is_full or (
            self._copies is not None and self._copies.full
        )

    @property
    def handle(self) -> str | None:
        """The handle of a job whose first event is published next; None if unknown."""
        return self._handle()

    async def room(self) -> None:
        """Wait until another event may be published."""
        await self._publisher.backpressure.wait()
        if self._copies is not None and self._copies.full:
            await self._copies.room()

    def record(self, record: NumberedEvent) -> None:
        """Write the record of the next event to the journal."""
        frames = self._frames.to_queue(self._publisher.names.journal) + self._frames.content(record)
        self._publisher.record(PendingMessage(self._messages, self._buffer, record, frames))

    def publish(self, event: NumberedEvent) -> None:
        """Publish one event to its chat, and a copy to the job's reply_to."""
        name = self._last = event.name
        frames = self._frames.to_chat(event)
        is_end = name == "end"
        self._publisher.publish(PendingMessage(self._messages, self._buffer, event, frames, is_end))
        if self._copies is not None:
            self._copies.publish(event, self._frames.content(event))

    async def confirmed(self) -> None:
        """Wait until the broker has answered for every event and record published so far.

        Once the last event is among them, wait for the copies, too, for a bounded time.

        Raises:
            BrokerSilent: It did not within the window's time.
            EventTooLarge, ClosesConnection: It never will.
        """
        limit = self._publisher.window.confirm_timeout
        if self._messages.unsettled:
            try:
                await within(
                    limit, self._messages.settled(), not_counting=lambda: self._publisher.blocked
                )
            except TimeoutError as error:
                raise BrokerSilent(limit) from error
        if self._messages.fault is not None:
            raise self._messages.fault
        if self._copies is not None and self._last in _LAST:
            await self._copies.confirmed()


class EventPublisher(MessagePublisher):
    """Publishes events to their chats, and copies to the queues that jobs name."""

    def __init__(
        self,
        names: Names,
        window: Window,
        may_write: Callable[[], bool] = lambda: True,
        counts: EventCounts | None = None,
        copies: Callable[[str, EventFrames], CopyPublisher] | None = None,
        log: EventLog | None = None,
    ) -> None:
        """Prepare; see the base class.

        Args:
            names: The topology's names.
            window: What may be in flight.
            may_write: Asked before anything is written.
            counts: What became of the events.
            copies: Returns what publishes copies to a queue; None where nobody asks for any.
            log: The event log; None for one with the usual partitions.
        """
        super().__init__(names, window, may_write, counts)
        self._copies = copies
        self._log = log or EventLog(names)
        # All events meet the same queues.
        self._nack_period = NackPeriod("events", window.resend_for)

    @override
    def on_nack(self, message: PendingMessage) -> None:
        """Take a nack. That of a snapshot says nothing of the queues of events."""
        if isinstance(message, SnapshotMessage):
            message.buffer.on_nack(message, may_resend=False)
        else:
            super().on_nack(message)

    def attempt_publisher(self, address: Address) -> AttemptPublisher:
        """Return what publishes the events of one attempt."""
        frames = EventFrames(
            *(address, self.names.events, CHANNEL_NUMBER, self.sender.frame_max),
            self._log.partition(address.chat_id),
        )
        copies = None
        if address.reply_to is not None and self._copies is not None:
            copies = self._copies(address.reply_to, frames)
        buffer = self.buffer(address.chat_id, self._nack_period)
        # The first event comes later: until then, the log's end may be found.
        self._log.want(address.chat_id)
        handle = partial(self._log.handle, address.chat_id)
        return AttemptPublisher(self, frames, buffer, copies, handle)
