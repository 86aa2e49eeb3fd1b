"""Publish copies of events to the queues that jobs name as `reply_to`, on a separate connection.

A producer can make up names for which the broker closes the connection that publishes to them. A
loss of this connection costs copies only. It is opened for the first copy.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from time import monotonic
from typing import Never

from aimicromind_schemas import Names
from aimicromind_schemas.client.transport.cancelling import is_cancelled
from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.amqp.events.attempt_publisher import CopyPublisher
from aimicromind_worker.amqp.events.backpressure import Window
from aimicromind_worker.amqp.events.frames import EventFrames
from aimicromind_worker.amqp.events.message_publisher import MessagePublisher
from aimicromind_worker.amqp.events.nack_period import NackPeriod
from aimicromind_worker.amqp.events.publisher_link import PublisherLink, pause_s
from aimicromind_worker.amqp.ownership import JobOwnership
from aimicromind_worker.telemetry.event_counts import EventCounts

# Larger than that of the events: no attempt waits for copies while the broker confirms them.
_WINDOW = Window(messages=8192)
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
            connect: Opens a connection for the body; called again after each loss.
            interval: Time between heartbeats.
            names: The topology's names.
            ownership: When it is lost, the connection is closed at once.
            counts: What became of the events of the worker.
            window: What may be in flight; beyond that, copies are dropped.
        """
        self._publisher = MessagePublisher(names, window, ownership.is_open, counts)
        self._connect = connect
        self._link = PublisherLink("copies", self._opened, interval, self._publisher, ownership)
        self._wanted = asyncio.Event()

    def copy_publisher(self, queue: str, frames: EventFrames) -> CopyPublisher:
        """Return what publishes the copies of one attempt's events."""
        self._publisher.sender.expect_frames(frames.frame_max)
        self._wanted.set()
        nack_period = NackPeriod("reply_to", self._publisher.window.resend_for)
        buffer = self._publisher.buffer(queue, nack_period)
        return CopyPublisher(self._publisher, frames, buffer, queue)

    async def run(self) -> Never:
        """Keep a connection open from the first copy on, and open another after each failure."""
        await self._wanted.wait()
        failures = 0
        while True:
            began, at_fault = monotonic(), self._publisher.addresses_at_fault
            try:
                await self._link.until_lost()
            except (Exception, asyncio.CancelledError) as error:
                if is_cancelled():
                    raise
                # No failure of this connection may cost more than copies.
                self._link.note_loss(error)
            # The address at fault gets nothing any more, and the next connection may hold.
            held = monotonic() - began > _STEADY_S or self._publisher.addresses_at_fault > at_fault
            failures = 0 if held else failures + 1
            await asyncio.sleep(pause_s(failures))

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
