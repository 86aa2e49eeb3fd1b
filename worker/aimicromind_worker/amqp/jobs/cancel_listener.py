"""Receive cancel requests, those in the control log first, then each as it is published."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.abc import DeliveredMessage

from aimicromind_schemas import CancelRequest, InvalidCancel, Names, decode_cancel
from aimicromind_worker.amqp.republishing import Outgoing
from aimicromind_worker.amqp.stream_reader import NothingThere, read_up_to_now

log = structlog.get_logger()

_TIMEOUT_S = 30.0
# The clocks of the broker and the worker may differ by this much.
_CLOCK_SLACK = timedelta(minutes=15)


class CancelListenerLost(ConnectionError):
    """No more cancel requests can be received."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the control channel closed: {reason}")


class CancelListener:
    """The cancel requests of one session.

    Attributes:
        known_until: The time up to which requests are known from the log, by the worker's clock.
    """

    def __init__(self, take: Callable[[CancelRequest], None]) -> None:
        self.known_until = datetime.now(UTC)
        self._take_request = take
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        connection: AbstractConnection,
        outgoing: Outgoing,
        names: Names,
        take: Callable[[CancelRequest], None],
        since: datetime,
    ) -> AsyncIterator["CancelListener"]:
        """Pass on all requests since a time; those in the log are passed before the body begins.

        The worker's own queue is consumed before the log is read. Thus no request is missed, and
        one may come twice.

        Args:
            connection: The connection of the jobs.
            outgoing: The publisher of the marker in the log.
            names: The names of exchanges and queues.
            take: A callback for each request.
            since: The time from which requests are wanted, aware.

        Raises:
            StreamUnreadable: The log could not be read.
            TimeoutError: The broker did not answer within 30 s.
        """
        control = cls(take)
        async with asyncio.timeout(_TIMEOUT_S):
            # The channel closes with its connection. Closing it would wait for a silent broker.
            channel = await connection.channel()
            channel.close_callbacks.add(control._closed)
            inner = await channel.get_underlay_channel()
            inner.on_consumer_cancel_callbacks.add(control._cancelled)
            await _consume_own_queue(channel, names.control, control._receive_request)
            await _consume_own_queue(channel, names.pool, control._receive_unknown)
        read = partial(read_up_to_now, connection, outgoing, names.control_log)
        try:
            await read(since - _CLOCK_SLACK, control._take)
        except NothingThere:
            # The worker's clock is ahead of the broker's.
            await read(None, control._take)
        yield control

    async def lost(self) -> None:
        """Wait until requests can no longer be received.

        Raises:
            CancelListenerLost: Always, with the reason.
        """
        raise CancelListenerLost(await asyncio.shield(self._lost))

    async def _receive_request(self, message: DeliveredMessage) -> None:
        self._take(message)

    async def _receive_unknown(self, message: DeliveredMessage) -> None:
        # Workers of this version publish nothing to the pool; newer ones may.
        log.debug("pool.unknown", size_bytes=len(message.body))

    def _take(self, message: DeliveredMessage) -> None:
        try:
            self._take_request(decode_cancel(message.body))
        except InvalidCancel as error:
            log.warning("cancel.malformed", reason=str(error))
        except Exception as error:  # noqa: BLE001 - one message must not cost the session
            # The error's text might quote the message.
            log.warning("cancel.unreadable", error=type(error).__name__)

    def _cancelled(self, _: object) -> None:
        self._end("the broker cancelled the consumer")

    def _closed(self, _: object, error: BaseException | None) -> None:
        self._end(str(error) or type(error).__name__)

    def _end(self, reason: str) -> None:
        if not self._lost.done():
            self._lost.set_result(reason)


async def _consume_own_queue(
    channel: AbstractChannel,
    exchange: str,
    take: Callable[[DeliveredMessage], Coroutine[None, None, None]],
) -> None:
    """Consume a fanout exchange by an exclusive queue, which is deleted with the connection."""
    queue = await channel.declare_queue(
        f"{exchange}.{uuid4()}", exclusive=True, arguments={"x-queue-type": "classic"}
    )
    await queue.bind(exchange, "")
    inner = await channel.get_underlay_channel()
    await inner.basic_consume(queue.name, take, no_ack=True)
