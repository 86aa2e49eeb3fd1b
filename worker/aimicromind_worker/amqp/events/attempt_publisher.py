"""Publish the events of one attempt in order, and count those that are unconfirmed.

`publisher` sends them to the broker, together with those of all other attempts.
"""

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from aimicromind_worker.amqp.events.frames import EventFrames
from aimicromind_worker.amqp.events.resend_buffer import ResendBuffer, Sent
from aimicromind_worker.amqp.waiting import within
from aimicromind_worker.core.job.numbering import NumberedEvent

# What an attempt says last, in this worker at least.
_LAST = {"end", "retry"}


class BrokerSilent(ConnectionError):
    """The broker took events and did not confirm them in time."""

    def __init__(self, waited: timedelta) -> None:
        super().__init__(f"the broker confirmed nothing for {waited.total_seconds():g} s")


class EventTooLarge(Exception):
    """The broker takes no message as large as an event of the job."""

    def __init__(self, most_bytes: int) -> None:
        super().__init__(f"the broker takes no message of more than {most_bytes} bytes")


class ClosesConnection(Exception):
    """The broker closes the connection whenever an event of the job is published."""

    def __init__(self) -> None:
        super().__init__("the broker closes each connection on which the job's events are sent")


@dataclass(frozen=True, slots=True)
class Window:
    """What may be in flight, over all jobs.

    Attributes:
        messages: Most messages, those that are held behind a nacked one included.
        size_bytes: Most bytes; a message larger than this goes alone.
        confirm_timeout: Longest wait for the confirms of one job's events, not counted while
            the broker has an alarm.
        resend_for: How long nacked events are sent again, from the first of them; what follows
            one in its chat comes later by so much at most.
    """

    messages: int = 2048
    size_bytes: int = 32 * 1024 * 1024
    confirm_timeout: timedelta = timedelta(minutes=5)
    resend_for: timedelta = timedelta(seconds=2)


class EventTarget(Protocol):
    """Who sends the messages: the publisher of all attempts, or that of all copies."""

    @property
    def window(self) -> Window:
        """What may be in flight."""

    @property
    def full(self) -> bool:
        """Whether nothing more should be published now."""

    @property
    def blocked(self) -> bool:
        """Whether the broker has an alarm and takes no events."""

    async def room(self) -> None:
        """Wait until the window has emptied far enough."""

    def send(self, sent: Sent) -> None:
        """Send one message."""


class Copying(Protocol):
    """Publishes a copy of each event of an attempt, for its job's reply_to."""

    @property
    def full(self) -> bool:
        """Whether to wait for `room` before the next event."""

    async def room(self) -> None:
        """Wait until a copy may be published, or for as long as the attempt waits for copies."""

    def publish(self, event: NumberedEvent, content: bytes) -> None:
        """Send a copy of one event, whose header and body frames are given."""

    async def confirmed(self) -> None:
        """Wait for the broker's answers, or for as long as the attempt waits for copies."""


class Lane:
    """Messages of one attempt, counted until none needs more sending.

    Attributes:
        fault: Why nothing more of it is sent: it would have a gap.
    """

    def __init__(self, publisher: EventTarget, frames: EventFrames, buffer: ResendBuffer) -> None:
        """Begin with nothing.

        Args:
            publisher: Sends the messages.
            frames: Writes the attempt's events.
            buffer: Keeps the order of all messages to the address.
        """
        self.fault: Exception | None = None
        self._publisher = publisher
        self._frames = frames
        self._buffer = buffer
        self._unsettled = 0
        self._idle: asyncio.Event = asyncio.Event()

    def settled(self) -> None:
        """Record that one message needs no more sending. For the publisher."""
        self._unsettled -= 1
        if not self._unsettled:
            self._idle.set()

    def frames_straight(self, queue: str, beside: str, event: NumberedEvent) -> bytes:
        """Write an event's frames for two queues, of which the first must be there."""
        to_queue = self._frames.to_queue(queue, mandatory=True)
        return to_queue + self._frames.content(event, beside)

    def _send(self, event: NumberedEvent, frames: bytes, *, is_end: bool) -> None:
        self._unsettled += 1
        self._publisher.send(Sent(self, self._buffer, event, frames, is_end=is_end))

    async def _all_settled(self) -> None:
        while self._unsettled:
            self._idle.clear()
            await self._idle.wait()


class AttemptPublisher(Lane):
    """The events of one attempt, in order. Use it from the attempt's task only."""

    def __init__(
        self,
        publisher: EventTarget,
        frames: EventFrames,
        chat: ResendBuffer,
        copies: Copying | None,
    ) -> None:
        """Begin with nothing; see the base class."""
        super().__init__(publisher, frames, chat)
        self._copies = copies
        self._last = ""

    @property
    def full(self) -> bool:
        """Whether to wait for `room` before the next event."""
        return self._publisher.full or (self._copies is not None and self._copies.full)

    async def room(self) -> None:
        """Wait until another event may be published."""
        await self._publisher.room()
        if self._copies is not None and self._copies.full:
            await self._copies.room()

    def publish(self, event: NumberedEvent) -> None:
        """Send one event to its chat, and a copy to the job's reply_to."""
        self._last = event.name
        content = self._frames.content(event)
        self._send(event, self._frames.to_chat(event.name) + content, is_end=event.name == "end")
        if self._copies is not None:
            self._copies.publish(event, content)

    async def confirmed(self) -> None:
        """Wait until the broker has answered for every event published so far.

        Once the last one is among them, the copies are waited for, too, for a bounded time.

        Raises:
            BrokerSilent: It did not within the window's time.
            EventTooLarge, ClosesConnection: It never will.
        """
        limit = self._publisher.window.confirm_timeout
        if self._unsettled:
            try:
                await within(
                    limit, self._all_settled(), not_counting=lambda: self._publisher.blocked
                )
            except TimeoutError as error:
                raise BrokerSilent(limit) from error
        if self.fault is not None:
            raise self.fault
        if self._copies is not None and self._last in _LAST:
            await self._copies.confirmed()
