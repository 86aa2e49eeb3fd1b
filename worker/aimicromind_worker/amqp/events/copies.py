"""Publish copies of events for `reply_to`, by a connection of their own.

Some names that a producer can make up have the broker close the connection that publishes to
them. So they meet a connection whose loss costs copies only. It is opened for the first of them.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from time import monotonic
from typing import Never

from aimicromind_schemas import Names
from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.amqp.events.attempt_publisher import CopyPublisher
from aimicromind_worker.amqp.events.backpressure import Window
from aimicromind_worker.amqp.events.frames import EventFrames
from aimicromind_worker.amqp.events.message_publisher import MessagePublisher
from aimicromind_worker.amqp.events.nack_period import NackPeriod
from aimicromind_worker.amqp.events.publisher_link import PublisherLink
from aimicromind_worker.amqp.ownership import JobOwnership
from aimicromind_worker.amqp.waiting import is_cancelled
from aimicromind_worker.telemetry.event_counts import EventCounts

# Larger than that of the events: as long as copies keep up, no attempt ever waits for them.
_WINDOW = Window(messages=8192)
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
        self._publisher = MessagePublisher(names, window, ownership.is_open, counts)
        self._connect = connect
        self._link = PublisherLink("copies", self._opened, interval, self._publisher, ownership)
        self._wanted = asyncio.Event()

    def lane(self, queue: str, frames: EventFrames) -> CopyPublisher:
        """Return what publishes the copies of one attempt's events."""
        self._publisher.sender.expect_frames(frames.frame_max)
        self._wanted.set()
        nack_period = NackPeriod("reply_to", self._publisher.window.resend_for)
        buffer = self._publisher.buffer(queue, nack_period)
        return CopyPublisher(self._publisher, frames, buffer, queue)

    async def run(self) -> Never:
        """Keep a connection open, for ever, from the first copy on; try again what fails."""
        await self._wanted.wait()
        failures = 0
        while True:
            began, at_fault = monotonic(), self._publisher.addresses_at_fault
            try:
                await self._link.until_lost()
            except (Exception, asyncio.CancelledError) as error:
                if is_cancelled():
                    raise
                # Whatever it is, it costs copies only.
                self._link.note_loss(error)
            # What was found at fault is gone, so that the next connection may hold.
            held = monotonic() - began > _STEADY_S or self._publisher.addresses_at_fault > at_fault
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
