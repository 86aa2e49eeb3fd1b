"""RabbitMQ → cancel requests: those that come, and those that came before there was a worker."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

import structlog
from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage

from aimicromind_schemas import CancelRequest, InvalidCancel, Names, decode_cancel
from aimicromind_worker.amqp.republishing import Outgoing
from aimicromind_worker.amqp.stream_reader import NothingThere, read_up_to_now

log = structlog.get_logger()

_TIMEOUT_S = 30.0
# The broker's clock and ours may differ by that much.
_CLOCK_SLACK = timedelta(minutes=15)


class CancelListenerLost(ConnectionError):
    """Cancel requests come no more."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the control channel closed: {reason}")


class CancelListener:
    """The requests of one session.

    Attributes:
        known_until: What came before, by our clock, is known from the log.
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
        """Pass on all requests since a time; those from before are passed when the body begins.

        What comes goes to a queue of our own before the log is read, so that nothing falls
        between the two; a request may come twice.

        Args:
            connection: That by which jobs come: who has no jobs needs no requests.
            outgoing: The way of the log's marker.
            names: Where the requests are.
            take: Gets each request.
            since: Aware.

        Raises:
            StreamUnreadable: The log could not be read.
        """
        control = cls(take)
        async with asyncio.timeout(_TIMEOUT_S):
            # It closes with its connection: to close it first would wait for a silent broker.
            channel = await connection.channel()
            channel.close_callbacks.add(control._closed)
            inner = await channel.get_underlay_channel()
            inner.on_consumer_cancel_callbacks.add(control._cancelled)
            queue = await channel.declare_queue(
                f"{names.control}.{uuid4()}",
                exclusive=True,
                arguments={"x-queue-type": "classic"},
            )
            await queue.bind(names.control, "")
            await inner.basic_consume(queue.name, control._come, no_ack=True)
            pool = await channel.declare_queue(
                f"{names.pool}.{uuid4()}",
                exclusive=True,
                arguments={"x-queue-type": "classic"},
            )
            await pool.bind(names.pool, "")
            await inner.basic_consume(pool.name, control._come_from_pool, no_ack=True)
        read = partial(read_up_to_now, connection, outgoing, names.control_log)
        try:
            await read(since - _CLOCK_SLACK, control._take)
        except NothingThere:
            # Our clock is ahead of the broker's.
            await read(None, control._take)
        yield control

    async def lost(self) -> None:
        """Wait until requests come no more.

        Raises:
            CancelListenerLost: They do not.
        """
        raise CancelListenerLost(await asyncio.shield(self._lost))

    async def _come(self, message: DeliveredMessage) -> None:
        self._take(message)

    async def _come_from_pool(self, message: DeliveredMessage) -> None:
        # Nothing that workers of this version tell each other; a newer one may.
        log.debug("pool.unknown", size_bytes=len(message.body))

    def _take(self, message: DeliveredMessage) -> None:
        try:
            self._take_request(decode_cancel(message.body))
        except InvalidCancel as error:
            log.warning("cancel.malformed", reason=str(error))
        except Exception as error:  # noqa: BLE001 - one message must not cost the session
            # Without its text, which might quote the message.
            log.warning("cancel.unreadable", error=type(error).__name__)

    def _cancelled(self, _: object) -> None:
        self._end("the broker cancelled the consumer")

    def _closed(self, _: object, error: BaseException | None) -> None:
        self._end(str(error) or type(error).__name__)

    def _end(self, reason: str) -> None:
        if not self._lost.done():
            self._lost.set_result(reason)
