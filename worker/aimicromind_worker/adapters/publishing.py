"""The connection by which events and jobs go out: opened again when it is lost, under way.

What was not confirmed goes out again on the next one, so that consumers may see it twice and
miss nothing. Jobs go on meanwhile, up to the window of the events.
"""

import asyncio
import random
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from time import monotonic
from typing import Never

import structlog
from aio_pika import Message
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import (
    AMQPChannelError,
    AMQPError,
    ChannelAccessRefused,
    ChannelClosed,
    ChannelInvalidStateError,
    ConnectionClosed,
    DeliveryError,
)

from aimicromind_worker.adapters.confirm_channel import ConfirmChannel, check_parts
from aimicromind_worker.adapters.connection import BrokerConnection, PermissionMissing
from aimicromind_worker.adapters.event_sink import EventSink, FramesTooLarge
from aimicromind_worker.adapters.fence import Fence
from aimicromind_worker.adapters.patience import within
from aimicromind_worker.adapters.topology import Topology, declare

log = structlog.get_logger()

_LOOK_EVERY_S = 0.25
# A broker that has nothing to say sends a heartbeat every half interval.
_SILENT_INTERVALS = 1.25
_OPEN_TIMEOUT_S = 20.0
_PUBLISH_TIMEOUT = timedelta(minutes=5)
_SHORTEST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
_STEADY_S = 30.0
# A message for which the broker closes a channel so often is at fault itself.
_CHANNELS_FOR_ONE = 3
# What goes out again on each connection is then at fault. The session ends, and the broker counts
# the deliveries of its jobs.
_CLOSED_IN_A_ROW = 4
_CLOSED = (ConnectionClosed, ChannelClosed)
_AT_ONCE_S = 5.0
# So RabbitMQ says why it closed a channel; the number is its limit.
_TOO_LARGE = re.compile(r"message size \d+\b.*\blarger than\b.*\bmax size (\d+)")
# aiormq also says with CancelledError that a connection closed.
_LOST = (
    ConnectionError,
    AMQPError,
    ChannelInvalidStateError,
    TimeoutError,
    asyncio.CancelledError,
)


class PublishingLost(ConnectionError):
    """The connection by which events go out is lost."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the publishing connection is lost: {reason}")
        self.reason = reason


class CannotBePublished(Exception):
    """The broker closes each channel on which a message is published."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the broker refuses a message whenever it is published: {reason}")


class Publishing:
    """Opens the connection, watches it, and opens it again. One for a session."""

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[BrokerConnection]],
        interval: timedelta,
        wanted: Topology,
        sink: EventSink,
        fence: Fence,
        waits_out: tuple[type[Exception], ...] = (),
    ) -> None:
        """Prepare; nothing is opened before `run`.

        Args:
            connect: Opens a connection for the body; called again whenever one was lost.
            interval: Of heartbeats.
            wanted: What is declared on each new connection.
            sink: Publishes on it, over all of them.
            fence: Once shut, what was not sent is dropped.
            waits_out: What a connection that was open once may fail by, to be tried again.
        """
        self._connect = connect
        self._interval = interval
        self._wanted = wanted
        self._sink = sink
        self._fence = fence
        self._waits_out = waits_out
        self._connection: BrokerConnection | None = None
        self._outgoing: AbstractChannel | None = None
        self._lost = "it is not open yet"
        self._was_open = False
        self._is_usable = asyncio.Event()
        self._is_over = False
        fence.when_shut(self._drop)

    def obstacle(self) -> str | None:
        """Say why nothing can be published now; None if it can."""
        if self._outgoing is None:
            return self._lost
        if self._sink.blocked:
            return "the broker takes no events: it has a memory or disk alarm"
        if not self._fence.is_open():
            return "the broker is silent on the connection that jobs come by"
        return None

    @property
    def frame_max(self) -> int:
        """Most bytes of one frame that the broker takes."""
        return self._sink.frame_max

    async def usable(self) -> None:
        """Wait until there is no obstacle.

        Raises:
            PublishingLost: The session is over.
        """
        await self._is_usable.wait()
        if self._is_over:
            raise PublishingLost("the session is over")

    async def publish(self, message: Message, exchange: str, key: str) -> None:
        """Publish a message to one queue at least, and have that confirmed.

        While there is no connection, and while the broker has an alarm, this waits. A message
        that was on its way when the connection was lost may arrive twice.

        Raises:
            DeliveryError: No queue took it, or one of them refused it.
            CannotBePublished: The broker closes the channel because of it.
            PublishingLost: There was no way for five minutes, alarms not counted.
        """
        try:
            await within(
                _PUBLISH_TIMEOUT,
                self._publish(message, exchange, key),
                not_counting=lambda: self._sink.blocked,
            )
        except TimeoutError as error:
            raise PublishingLost("nothing could be published for five minutes") from error

    async def _publish(self, message: Message, exchange: str, key: str) -> None:
        closed = 0
        while True:
            await self.usable()
            channel = self._outgoing
            if channel is None:
                continue
            try:
                target = await channel.get_exchange(exchange, ensure=False)
                await target.publish(message, key, mandatory=True)
            except DeliveryError:
                raise
            except _LOST as error:
                if _is_cancelled():
                    raise
                closed += isinstance(error, AMQPChannelError)
                if closed == _CHANNELS_FOR_ONE:
                    raise CannotBePublished(_sentence(error)) from error
                self._is_usable.clear()
            else:
                return

    async def run(self) -> Never:
        """Keep a connection open, for ever.

        Raises:
            BrokerUnreachable: There is none to begin with.
            BrokerRefused, PermissionMissing, TopologyDiffers, DeclarationRefused: To wait would
                not help.
            FramesTooLarge: The events on their way do not fit another broker.
            PublishingLost: The broker closes one connection after the other on us.
        """
        try:
            await self._keep_open()
        finally:
            self._is_over = True
            self._is_usable.set()

    async def _keep_open(self) -> Never:
        failures = closed_on_us = 0
        while True:
            began = monotonic()
            try:
                await self._one_connection()
            except ChannelAccessRefused as error:
                raise PermissionMissing(str(error)) from error
            except FramesTooLarge:
                raise
            except self._waits_out as error:
                if not self._was_open:
                    raise
                self._note_loss(_sentence(error))
            except _LOST as error:
                if _is_cancelled() or not self._was_open:
                    raise
                self._note_loss(_sentence(error))
                at_once = monotonic() - began < _AT_ONCE_S
                closed_on_us = closed_on_us + 1 if at_once and isinstance(error, _CLOSED) else 0
                if closed_on_us == _CLOSED_IN_A_ROW:
                    raise PublishingLost(_sentence(error)) from error
            failures = 0 if monotonic() - began > _STEADY_S else failures + 1
            pause_s = min(_LONGEST_PAUSE_S, _SHORTEST_PAUSE_S * 2 ** min(failures - 1, 10))
            await asyncio.sleep(pause_s * random.uniform(0.5, 1))  # noqa: S311 - spreads reconnects

    async def _one_connection(self) -> None:
        async with self._connect() as connection:
            self._connection = connection
            check_parts(connection.inner)
            try:
                async with asyncio.timeout(_OPEN_TIMEOUT_S):
                    await declare(connection, self._wanted)
                    events = await ConfirmChannel.open_on(
                        connection.inner, connection.wire, self._sink
                    )
                    outgoing = await connection.channel(on_return_raises=True)
                again = self._sink.resume(events)
                self._outgoing = outgoing
                if self._was_open:
                    log.info("publishing.restored", sent_again=again)
                self._was_open, self._lost = True, "the session is over"
                inner = await outgoing.get_underlay_channel()
                await self._until_lost(connection, (events.closing, inner.closing))
            except _LOST as error:
                if not _is_cancelled():
                    self._note_loss(_sentence(error))
                if too_large := _TOO_LARGE.search(self._lost):
                    self._sink.limit_size(int(too_large[1]))
                raise
            finally:
                self._outgoing = None
                self._is_usable.clear()

    async def _until_lost(
        self, connection: BrokerConnection, closings: Sequence[asyncio.Future[object]]
    ) -> Never:
        silence_s = self._interval.total_seconds() * _SILENT_INTERVALS
        heard, silent_looks, blocked = connection.wire.heard, 0, False
        while silent_looks * _LOOK_EVERY_S < silence_s:
            self._note_obstacle()
            if blocked != self._sink.blocked:
                blocked = not blocked
                log.warning("publishing.blocked" if blocked else "publishing.unblocked")
            # Look by look: time in which this whole process was stopped is one look.
            await asyncio.wait(closings, timeout=_LOOK_EVERY_S, return_when=asyncio.FIRST_COMPLETED)
            for closing in closings:
                if closing.done():
                    self._drop()
                    raise _reason(closing)
            silent_looks = silent_looks + 1 if heard == connection.wire.heard else 0
            heard = connection.wire.heard
        self._drop()
        raise PublishingLost("the broker is silent")

    def _note_obstacle(self) -> None:
        if self.obstacle() is None:
            self._is_usable.set()
        else:
            self._is_usable.clear()

    def _note_loss(self, reason: str) -> None:
        lost = str(PublishingLost(reason))
        if lost != self._lost:
            log.warning("publishing.lost", reason=reason)
        self._lost = lost

    def _drop(self) -> None:
        """Close at once, whatever waits to be sent."""
        if self._connection is not None:
            self._connection.wire.abort()


def _reason(closing: asyncio.Future[object]) -> Exception:
    error = None if closing.cancelled() else closing.exception()
    return error if isinstance(error, AMQPError) else PublishingLost("it closed")


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _sentence(error: BaseException) -> str:
    if isinstance(error, PublishingLost):
        return error.reason
    return " ".join(str(error).split()) or type(error).__name__
