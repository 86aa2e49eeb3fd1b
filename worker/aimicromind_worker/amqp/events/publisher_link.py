"""Open and watch one connection of a publisher, and find out why it was lost."""

import asyncio
import re
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from typing import Never

import structlog
from aiormq.exceptions import (
    AMQPError,
    ChannelClosed,
    ChannelInvalidStateError,
    ChannelNotFoundEntity,
    ConnectionClosed,
)

from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.amqp.events.confirm_channel import ConfirmChannel, check_parts
from aimicromind_worker.amqp.events.message_publisher import MessagePublisher
from aimicromind_worker.amqp.ownership import JobOwnership
from aimicromind_worker.amqp.waiting import is_cancelled

log = structlog.get_logger()

_LOOK_EVERY_S = 0.25
# A broker that has nothing to say sends a heartbeat every half interval.
_SILENT_INTERVALS = 1.25
_OPEN_TIMEOUT_S = 20.0
# So RabbitMQ says why it closed a channel; the number is its limit.
_TOO_LARGE = re.compile(r"message size \d+\b.*\blarger than\b.*\bmax size (\d+)")
# aiormq also says with CancelledError that a connection closed.
LOST = (
    ConnectionError,
    AMQPError,
    ChannelInvalidStateError,
    TimeoutError,
    asyncio.CancelledError,
)
"""What is raised where a connection or channel has closed, or does not answer."""


class PublisherLost(ConnectionError):
    """The connection on which events are published is lost."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the publishing connection is lost: {reason}")
        self.reason = reason


class PublisherLink:
    """Opens a connection for a publisher again and again, one at a time.

    Attributes:
        connection: The one that is open, None while there is none.
        was_open: Whether there ever was one.
        lost: Why there is none.
        closed_on_us: How often the broker closed one because of what was published on it.
    """

    def __init__(
        self,
        of: str,
        connect: Callable[[], AbstractAsyncContextManager[BrokerConnection]],
        interval: timedelta,
        publisher: MessagePublisher,
        ownership: JobOwnership,
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            of: What is published on it, for the log.
            connect: Opens a connection for the body.
            interval: Of heartbeats.
            publisher: Publishes on it, over all of them.
            ownership: Once shut, what was not sent is dropped.
        """
        self.connection: BrokerConnection | None = None
        self.was_open = False
        self.lost = "it is not open yet"
        self.closed_on_us = 0
        self._log = log.bind(of=of)
        self._connect = connect
        self._interval = interval
        self._publisher = publisher
        self._fault_is_ours = False
        self._opening: BrokerConnection | None = None
        ownership.when_shut(self._drop)

    async def until_lost(
        self,
        prepare: Callable[[BrokerConnection], Awaitable[None]] | None = None,
        look: Callable[[], None] = lambda: None,
    ) -> Never:
        """Open a connection, and have the publisher send on it until it is lost.

        Args:
            prepare: What to do on it before anything is published.
            look: Called when it is open, and a few times a second while it is.

        Raises:
            FramesTooLarge: It takes smaller frames than the one before.
            Exception: Whatever `connect`, `prepare` or the loss raise.
        """
        async with self._connect() as connection:
            check_parts(connection.inner)
            self._opening = connection
            try:
                async with asyncio.timeout(_OPEN_TIMEOUT_S):
                    if prepare is not None:
                        await prepare(connection)
                    channel = await ConfirmChannel.open_on(
                        connection.inner, connection.wire, self._publisher
                    )
                self._resume(connection, channel)
                try:
                    await self._watch(connection, channel, look)
                except LOST as error:
                    self._find_fault(error)
                    raise
            except LOST as error:
                if not is_cancelled():
                    self.note_loss(error)
                raise
            finally:
                self.connection = None

    def _resume(self, connection: BrokerConnection, channel: ConfirmChannel) -> None:
        again = self._publisher.resume(channel, closed_on_us=self._fault_is_ours)
        self._fault_is_ours = False
        self.connection = connection
        if self.was_open:
            self._log.info("publishing.restored", sent_again=again)
        self.was_open, self.lost = True, "the session is over"

    async def _watch(
        self, connection: BrokerConnection, channel: ConfirmChannel, look: Callable[[], None]
    ) -> Never:
        silence_s = self._interval.total_seconds() * _SILENT_INTERVALS
        heard, silent_looks, blocked = connection.wire.heard, 0, False
        while silent_looks * _LOOK_EVERY_S < silence_s:
            look()
            if blocked != self._publisher.blocked:
                blocked = not blocked
                self._log.warning("publishing.blocked" if blocked else "publishing.unblocked")
            # Look by look: time in which this whole process was stopped is one look.
            await asyncio.wait((channel.closing,), timeout=_LOOK_EVERY_S)
            if channel.closing.done():
                self._drop()
                raise _reason(channel.closing)
            silent_looks = silent_looks + 1 if heard == connection.wire.heard else 0
            heard = connection.wire.heard
        self._drop()
        raise PublisherLost("the broker is silent")

    def _find_fault(self, error: BaseException) -> None:
        if too_large := _TOO_LARGE.search(str(error)):
            self._publisher.limit_size(int(too_large[1]))
        elif closed_on_us(error) and not isinstance(error, ChannelNotFoundEntity):
            self._fault_is_ours = True
            self.closed_on_us += 1

    def note_loss(self, error: BaseException) -> None:
        """Keep, and log once, why there is no connection."""
        reason = sentence(error)
        lost = str(PublisherLost(reason))
        if lost != self.lost:
            self._log.warning("publishing.lost", reason=reason)
        self.lost = lost

    def _drop(self) -> None:
        """Close at once, whatever waits to be sent."""
        if self._opening is not None:
            self._opening.wire.abort()


def closed_on_us(error: BaseException) -> bool:
    """Return whether a broker closed a channel or connection because of what it was sent.

    A broker that stops, or is told to close a connection, does so with 320, which has no class.
    """
    return isinstance(error, ChannelClosed) or (
        isinstance(error, ConnectionClosed) and type(error) is not ConnectionClosed
    )


def sentence(error: BaseException) -> str:
    """Return what an error says, on one line."""
    if isinstance(error, PublisherLost):
        return error.reason
    return " ".join(str(error).split()) or type(error).__name__


def _reason(closing: asyncio.Future[object]) -> Exception:
    error = None if closing.cancelled() else closing.exception()
    return error if isinstance(error, AMQPError) else PublisherLost("it closed")
