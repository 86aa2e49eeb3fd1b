"""Receive what this worker is told: cancel requests, and messages of workers and operators.

Requests of the last half hour come first, then new ones and the rest of the log.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import structlog
from aio_pika.abc import AbstractChannel
from aiormq.abc import DeliveredMessage

from aimicromind_schemas import CancelRequest, InvalidCancel, Names, decode_cancel
from aimicromind_schemas.client.streams.markers import read_up_to_now
from aimicromind_schemas.client.streams.reader import NothingThere, Take
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.transport.stream_frames import StreamMessage
from aimicromind_worker.amqp.republishing import Outgoing
from aimicromind_worker.core.chats.messages import TakeMail
from aimicromind_worker.core.chats.return_address import ReturnAddress

log = structlog.get_logger()

_TIMEOUT_S = 30.0
# The clocks of the broker, the worker and a client may differ by this much.
_CLOCK_SLACK = timedelta(minutes=15)
_EVER = datetime.min.replace(tzinfo=UTC)


class CancelListenerLost(ConnectionError):
    """No more cancel requests can be received."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the control channel closed: {reason}")


class CancelListener:
    """The cancel requests of one session.

    Attributes:
        known_until: The time up to which requests are known from the log, by the worker's clock.
        known_since: All requests are known that may cancel a job submitted since then.
        worker: The queue by which other workers tell this one something.
        take_told: A callback with each message that comes there, and where its sender wants the
            answer.
    """

    def __init__(
        self,
        take: Callable[[CancelRequest], None],
        take_logged: Callable[[CancelRequest], None],
        read: Callable[[datetime | None, Take], Awaitable[None]],
        since: datetime,
    ) -> None:
        self.known_until = datetime.now(UTC)
        newest = self.known_until - _CLOCK_SLACK
        self.known_since = newest if since < newest else _EVER
        self.worker = ""
        self.take_told: TakeMail = lambda *_: None
        self._take_request = take
        self._take_logged_request = take_logged
        self._read = read
        self._since = since
        self._lost: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        connection: GuardedConnection,
        outgoing: Outgoing,
        names: Names,
        take: Callable[[CancelRequest], None],
        since: datetime,
        take_logged: Callable[[CancelRequest], None] | None = None,
    ) -> AsyncIterator["CancelListener"]:
        """Pass on all new requests, and before the body begins those of the last quarter hour.

        The worker's own queue is consumed before the log is read. Thus no request is missed, and
        one may come twice.

        Args:
            connection: The connection of the jobs.
            outgoing: The publisher of the marker in the log.
            names: The names of exchanges and queues.
            take: A callback for each new request.
            since: The time from which requests are wanted, aware. `read_rest` reads those that are
                older than a quarter of an hour.
            take_logged: A callback for each request from the log; None: the same.

        Raises:
            StreamUnreadable: The log could not be read.
            TimeoutError: The broker did not answer within 30 s.
        """
        read = partial(read_up_to_now, connection, outgoing.publish, names.control_log)
        control = cls(take, take_logged or take, read, since)
        async with asyncio.timeout(_TIMEOUT_S):
            # The channel closes with its connection. Closing it would wait for a silent broker.
            channel = await connection.channel()
            channel.close_callbacks.add(control._closed)
            inner = await channel.get_underlay_channel()
            inner.on_consumer_cancel_callbacks.add(control._cancelled)
            await _consume_own_queue(channel, names.control, control._receive_request)
            control.worker = await _consume_own_queue(channel, names.pool, control._receive_told)
        await control._read_log(max(since, control.known_since))
        yield control

    async def read_rest(self) -> None:
        """Pass on the requests of the log that are older than those which are known.

        Raises:
            StreamUnreadable: The log could not be read.
        """
        if self.known_since > _EVER:
            await self._read_log(self._since)
            self.known_since = _EVER

    async def _read_log(self, since: datetime) -> None:
        try:
            await self._read(since - _CLOCK_SLACK, self._take_logged)
        except NothingThere:
            # The worker's clock is ahead of the broker's.
            await self._read(None, self._take_logged)

    async def lost(self) -> None:
        """Wait until requests can no longer be received.

        Raises:
            CancelListenerLost: Always, with the reason.
        """
        raise CancelListenerLost(await asyncio.shield(self._lost))

    async def _receive_request(self, message: DeliveredMessage) -> None:
        self._take(message.body, self._take_request)

    async def _receive_told(self, message: DeliveredMessage) -> None:
        try:
            properties = message.header.properties
            reply_to, correlation_id = properties.reply_to, properties.correlation_id or ""
            sender = ReturnAddress(reply_to, correlation_id) if reply_to else None
            self.take_told(message.body, sender)
        except Exception as error:  # noqa: BLE001 - one message must not cost the session
            log.warning("pool.unreadable", error=type(error).__name__)

    def _take_logged(self, message: StreamMessage) -> None:
        self._take(message.body, self._take_logged_request)

    def _take(self, body: bytes, take: Callable[[CancelRequest], None]) -> None:
        try:
            take(decode_cancel(body))
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
) -> str:
    """Consume a fanout exchange by an exclusive queue, which is deleted with the connection.

    Returns:
        The name of the queue.
    """
    queue = await channel.declare_queue(
        f"{exchange}.{uuid4()}", exclusive=True, arguments={"x-queue-type": "classic"}
    )
    await queue.bind(exchange, "")
    inner = await channel.get_underlay_channel()
    await inner.basic_consume(queue.name, take, no_ack=True)
    return queue.name
