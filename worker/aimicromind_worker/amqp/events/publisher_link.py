"""Open a connection for a publisher, watch it, and find out why it was lost."""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Iterable
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

from aimicromind_schemas.client.transport.cancelling import is_cancelled
from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.amqp.events.confirm_channel import ConfirmChannel, check_parts
from aimicromind_worker.amqp.events.message_publisher import MessagePublisher
from aimicromind_worker.amqp.ownership import JobOwnership
from aimicromind_worker.amqp.waiting import AnswerWatch, Waiting

log = structlog.get_logger()

_TICK_S = 0.25
# A broker that has nothing to say sends a heartbeat every half interval.
_SILENT_INTERVALS = 1.25
_OPEN_TIMEOUT_S = 20.0
# RabbitMQ's reason for closing a channel; the number is its limit.
_TOO_LARGE = re.compile(r"message size \d+\b.*\blarger than\b.*\bmax size (\d+)")
# Before another connection is opened.
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_MOST_DOUBLINGS = 10
# aiormq also raises CancelledError where a connection closed.
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
    """Opens the connections of a publisher, one after the other.

    Attributes:
        connection: The connection that is open; None while there is none.
        was_open: Whether there ever was one.
        lost: Why there is none.
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
            of: What is published, for the log.
            connect: Opens a connection for the body.
            interval: Time between heartbeats.
            publisher: Publishes on each of them.
            ownership: When it is lost, the connection is closed at once.
        """
        self.connection: BrokerConnection | None = None
        self.was_open = False
        self.lost = "it is not open yet"
        self._log = log.bind(of=of)
        self._connect = connect
        self._interval = interval
        self._publisher = publisher
        self._answers = AnswerWatch(publisher.window.answer_timeout.total_seconds())
        self._closed_on_us = False
        self._opening: BrokerConnection | None = None
        ownership.when_shut(self._abort)

    async def until_lost(
        self,
        prepare: Callable[[BrokerConnection], Awaitable[None]] | None = None,
        on_tick: Callable[[], None] = lambda: None,
        oldest: Callable[[], Iterable[Waiting]] = tuple,
    ) -> Never:
        """Open a connection, and have the publisher send on it until it is lost.

        Args:
            prepare: Called with it before anything is published.
            on_tick: Called when it is open, and a few times a second while it is.
            oldest: Returns what has waited longest for its answer on other channels of it.

        Raises:
            FramesTooLarge: It takes smaller frames than the one before.
            Exception: What `connect`, `prepare` or the loss raise.
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
                    await self._watch(connection, channel, on_tick, oldest)
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
        again = self._publisher.resume(channel, closed_on_us=self._closed_on_us)
        self._closed_on_us = False
        self._answers.restart()
        self.connection = connection
        if self.was_open:
            self._log.info("publishing.restored", sent_again=again)
        self.was_open, self.lost = True, "the session is over"

    async def _watch(
        self,
        connection: BrokerConnection,
        channel: ConfirmChannel,
        on_tick: Callable[[], None],
        oldest: Callable[[], Iterable[Waiting]],
    ) -> Never:
        silence_s = self._interval.total_seconds() * _SILENT_INTERVALS
        heard, silent_ticks, blocked = connection.wire.heard, 0, False
        # aiormq returns another future each time, and keeps it until the channel closes.
        closing = channel.closing
        while silent_ticks * _TICK_S < silence_s:
            on_tick()
            if blocked != self._publisher.blocked:
                blocked = not blocked
                self._log.warning("publishing.blocked" if blocked else "publishing.unblocked")
            # By ticks: time in which the whole process was stopped counts as one.
            await asyncio.wait((closing,), timeout=_TICK_S)
            if closing.done():
                self._abort()
                raise _reason(closing)
            silent_ticks = silent_ticks + 1 if heard == connection.wire.heard else 0
            heard = connection.wire.heard
            waiting = (*channel.oldest, *oldest())
            if self._answers.on_tick(waiting, _TICK_S, may_answer=not blocked):
                self._abort()
                raise PublisherLost("the broker does not answer for all messages")
        self._abort()
        raise PublisherLost("the broker is silent")

    def _find_fault(self, error: BaseException) -> None:
        if too_large := _TOO_LARGE.search(str(error)):
            self._publisher.limit_size(int(too_large[1]))
        elif closed_on_us(error) and not isinstance(error, ChannelNotFoundEntity):
            self._closed_on_us = True

    def note_loss(self, error: BaseException) -> None:
        """Keep the reason why there is no connection, and log it once."""
        reason = sentence(error)
        lost = str(PublisherLost(reason))
        if lost != self.lost:
            self._log.warning("publishing.lost", reason=reason)
        self.lost = lost

    def _abort(self) -> None:
        """Close the connection at once, whatever waits to be sent."""
        if self._opening is not None:
            self._opening.wire.abort()


def closed_on_us(error: BaseException) -> bool:
    """Return whether a broker closed a channel or connection because of what it was sent.

    A broker that stops, or that an operator has close a connection, uses the reply code 320. For
    that one, aiormq has no class of its own.
    """
    return isinstance(error, ChannelClosed) or (
        isinstance(error, ConnectionClosed) and type(error) is not ConnectionClosed
    )


def sentence(error: BaseException) -> str:
    """Return the text of an error, on one line."""
    if isinstance(error, PublisherLost):
        return error.reason
    return " ".join(str(error).split()) or type(error).__name__


def pause_s(failures: int) -> float:
    """Return how long to wait before a connection is opened again: longer with each failure."""
    doublings = min(failures, _MOST_DOUBLINGS)
    longest_s = min(_LONGEST_PAUSE_S, _SHORTEST_PAUSE_S * 2.0**doublings)
    return longest_s * random.uniform(0.5, 1)  # noqa: S311 - spreads reconnects


def _reason(closing: asyncio.Future[object]) -> Exception:
    error = None if closing.cancelled() else closing.exception()
    return error if isinstance(error, AMQPError) else PublisherLost("it closed")
