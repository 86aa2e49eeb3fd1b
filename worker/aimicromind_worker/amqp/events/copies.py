"""Publish copies of events for `reply_to`, by a connection of their own.

Some names that a producer can make up have the broker close the connection that publishes to
them. So they meet a connection whose loss costs copies only. It is opened for the first of them.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import timedelta
from time import monotonic
from typing import Any, Never

import structlog

from aimicromind_schemas import Names
from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.amqp.events.attempt_publisher import Lane, Window
from aimicromind_worker.amqp.events.frames import EventFrames
from aimicromind_worker.amqp.events.nack_period import NackPeriod
from aimicromind_worker.amqp.events.publisher import EventPublisher
from aimicromind_worker.amqp.events.publisher_link import PublisherLink
from aimicromind_worker.amqp.events.resend_buffer import ResendBuffer
from aimicromind_worker.amqp.ownership import JobOwnership
from aimicromind_worker.amqp.waiting import is_cancelled
from aimicromind_worker.core.job.numbering import NumberedEvent
from aimicromind_worker.telemetry.event_counts import EventCounts

log = structlog.get_logger()

# Larger than that of the events: as long as copies keep up, no attempt ever waits for them.
_WINDOW = Window(messages=8192)
# How long one attempt waits in all for its copies: while the window is full, and at its end.
_PATIENCE_S = 5.0
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_STEADY_S = 30.0


class Copies:
    """The copies of all jobs. One for a session; `run` once."""

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[BrokerConnection]],
        interval: timedelta,
        names: Names,
        ownership: JobOwnership,
        counts: EventCounts,
        window: Window = _WINDOW,
    ) -> None:
        """Prepare; nothing is opened before the first copy.

        Args:
            connect: Opens a connection for the body; called again whenever one was lost.
            interval: Of heartbeats.
            names: The topology's names.
            ownership: Once shut, what was not sent is dropped.
            counts: Of all events of the worker.
            window: What may be in flight; beyond that, copies are dropped.
        """
        self._publisher = EventPublisher(names, window, ownership.is_open, counts)
        self._clock = asyncio.get_running_loop().time
        self._connect = connect
        self._link = PublisherLink("copies", self._opened, interval, self._publisher, ownership)
        self._wanted = asyncio.Event()

    def lane(self, queue: str, frames: EventFrames) -> "CopyPublisher":
        """Return what publishes the copies of one attempt's events."""
        self._publisher.expect_frames(frames.frame_max)
        self._wanted.set()
        window, counts = self._publisher.window, self._publisher.counts
        nack_period = NackPeriod("reply_to", window.resend_for, counts, self._clock)
        return CopyPublisher(
            self._publisher, frames, self._publisher.buffer(queue, nack_period), queue
        )

    async def run(self) -> Never:
        """Keep a connection open, for ever, from the first copy on; try again what fails."""
        await self._wanted.wait()
        failures = 0
        while True:
            began, given_up = monotonic(), self._publisher.given_up
            try:
                await self._link.until_lost()
            except (Exception, asyncio.CancelledError) as error:
                if is_cancelled():
                    raise
                # Whatever it is, it costs copies only.
                self._link.note_loss(error)
            # What was found at fault is gone, so that the next connection may hold.
            held = monotonic() - began > _STEADY_S or self._publisher.given_up > given_up
            failures = 0 if held else failures + 1
            pause_s = min(_LONGEST_PAUSE_S, _SHORTEST_PAUSE_S * 2 ** min(failures, 10))
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads reconnects

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[BrokerConnection]:
        async with self._connect() as connection:
            try:
                yield connection
            except asyncio.CancelledError:
                # A worker that shuts down does not wait for a broker that may be silent.
                if is_cancelled() and self._publisher.unsettled:
                    connection.wire.abort()
                raise


class CopyPublisher(Lane):
    """The copies of one attempt's events, in order; dropped while the window is full."""

    def __init__(
        self, publisher: EventPublisher, frames: EventFrames, buffer: ResendBuffer, queue: str
    ) -> None:
        """Begin with nothing; `queue` gets the copies, see also the base class."""
        super().__init__(publisher, frames, buffer)
        self._counts = publisher.counts
        self._publish_frame = frames.to_queue(queue)
        self._patience_s = _PATIENCE_S
        self._has_dropped = False

    @property
    def full(self) -> bool:
        """Whether to wait for `room` before the next event."""
        return self._publisher.full and self._patience_s > 0

    async def room(self) -> None:
        """Wait until a copy may be published, or for as long as the attempt waits for copies."""
        await self._patiently(self._publisher.room())

    async def confirmed(self) -> None:
        """Wait for the broker's answers, or for as long as the attempt waits for copies."""
        await self._patiently(self._all_settled())

    def publish(self, event: NumberedEvent, content: bytes) -> None:
        """Send a copy of one event, whose header and body frames are given."""
        if self.fault is None and not self._publisher.full:
            self._send(event, self._publish_frame + content, is_end=False)
            return
        self._counts.passed_over += 1
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
