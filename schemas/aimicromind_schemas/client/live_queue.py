"""The exclusive queue of a client process, on one channel: its bindings, and what it delivers.

aiormq and pamqp spend 145 µs of CPU on a message, and wait for one answer at a time. Here
deliveries and the answers to bindings are read from the bytes of the channel.

Invariants:

- The broker carries out the methods of a channel in their order, and answers in that order. Thus
  the first binding without an answer is the one for which it closes the channel.
- A delivery that was given to its takers is acknowledged within a second. A process that is stuck
  receives at most `_PREFETCH` more; the broker keeps `_MOST_BYTES` of the others.
- The broker drops the oldest messages beyond that, and tells nobody. Thus a busy queue is looked at
  each second, and all takers are told that they miss messages before it is full.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelNotFoundEntity
from pamqp import commands
from pamqp.frame import marshal

from aimicromind_schemas.client.connection import REFUSALS, TIMEOUT_S, broker_errors
from aimicromind_schemas.client.errors import (
    BrokerGone,
    BrokerRefused,
    ClientError,
    NothingToListenTo,
)
from aimicromind_schemas.client.live_frames import LiveFrames
from aimicromind_schemas.client.transport.opening import open_channel
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.transport.stream_frames import StreamMessage

_PREFETCH: Final = 400
_ACKNOWLEDGED_WITHIN_S: Final = 1.0
_MOST_BYTES: Final = 256 * 1024 * 1024

# How often a full queue is looked at before it is half empty.
_LOOKS_WHILE_FULL: Final = 8

Lost = Callable[["LiveQueue", dict[str, ClientError]], None]


@dataclass(frozen=True, slots=True)
class Handlers:
    """What a queue calls; none may raise.

    Attributes:
        take: Gets each message, in order.
        lost: Called once no more messages come, with the keys that the broker refused to bind.
        behind: Called while so many messages wait on the broker that it may soon drop some.
    """

    take: Callable[[StreamMessage], object]
    lost: Lost
    behind: Callable[[], None]


class LiveQueue:
    """One queue; `open` declares it. It ends with its channel.

    Attributes:
        is_over: Whether no more messages come.
        name: Its name, which the broker made.
    """

    def __init__(
        self,
        connection: GuardedConnection,
        channel: AbstractChannel,
        exchange: str,
        handlers: Handlers,
    ) -> None:
        self._write = connection.wire.write
        self._channel = channel
        self._exchange = exchange
        self._handlers = handlers
        self.name = ""
        self._frames: LiveFrames | None = None
        self._bound: dict[str, asyncio.Future[None]] = {}
        self._unanswered: deque[tuple[str, asyncio.Future[None]]] = deque()
        self._came = 0
        self._came_bytes = 0
        self._acknowledging: asyncio.TimerHandle | None = None
        self._looking: asyncio.Future[None] | None = None
        self.is_over = False
        self._closing: asyncio.Future[None] | None = None

    @classmethod
    async def open(cls, connection: GuardedConnection, exchange: str, handlers: Handlers) -> Self:
        """Declare the queue, without bindings, and consume it.

        Args:
            connection: A channel is opened on it.
            exchange: Exchange of events.
            handlers: What to call.

        Raises:
            BrokerGone: The connection closed.
            BrokerRefused: The user lacks a permission, or a limit is reached.
        """
        with broker_errors():
            async with asyncio.timeout(TIMEOUT_S):
                channel = await open_channel(connection)
                queue = cls(connection, channel, exchange, handlers)
                try:
                    await queue._consume(connection)
                except BaseException:
                    queue._over(None)
                    raise
        return queue

    def bound(self, key: str) -> asyncio.Future[None]:
        """Return a future that is done once a key is bound; bind it if nobody has.

        It raises BrokerGone, NothingToListenTo (there is no such exchange) or BrokerRefused.
        """
        bound = self._bound.get(key)
        if bound is None:
            bound = self._bound[key] = asyncio.get_running_loop().create_future()
            # Whoever asked may be gone when it fails.
            bound.add_done_callback(lambda it: it.cancelled() or it.exception())
            if self.is_over:
                bound.set_exception(BrokerGone())
                return bound
            self._unanswered.append((key, bound))
            self._send(commands.Queue.Bind(0, self.name, self._exchange, key))
        return bound

    def unbind(self, key: str) -> None:
        """Remove a binding. Messages may still come by it for a while."""
        if self._bound.pop(key, None) is not None and not self.is_over:
            self._send(commands.Queue.Unbind(0, self.name, self._exchange, key))

    async def _consume(self, connection: GuardedConnection) -> None:
        channel = self._channel
        frames = LiveFrames(channel.number, self._write, self._take, (), _PREFETCH // 2)
        frames.answered = self._answered
        self._frames = frames
        streams = connection.wire.demultiplexer.streams
        streams[channel.number] = frames
        channel.closing.add_done_callback(
            lambda _: streams.get(channel.number) is frames and streams.pop(channel.number)
        )
        # drop-head: a queue that nacks would delay the events of all other queues.
        arguments: dict[str, Any] = {"x-max-length-bytes": _MOST_BYTES, "x-overflow": "drop-head"}
        declared = await channel.queue_declare(
            "", exclusive=True, auto_delete=True, arguments=arguments
        )
        self.name = declared.queue or ""
        await channel.basic_qos(prefetch_count=_PREFETCH)
        await channel.basic_consume(self.name, _unused)
        channel.closing.add_done_callback(self._over)
        # The queue was deleted, or its node is down.
        channel.on_consumer_cancel_callbacks.add(lambda _: self._over(None))

    def _take(self, message: StreamMessage) -> None:
        self._handlers.take(message)
        self._came += 1
        self._came_bytes += len(message.body)
        if self._came_bytes >= _MOST_BYTES // _LOOKS_WHILE_FULL:
            self._look_soon()
        if self._acknowledging is None:
            loop = asyncio.get_running_loop()
            self._acknowledging = loop.call_later(_ACKNOWLEDGED_WITHIN_S, self._acknowledge)

    def _send(self, method: commands.Queue.Bind | commands.Queue.Unbind) -> None:
        self._write(marshal(method, self._channel.number))

    def _answered(self) -> None:
        """Take the answer to the first binding without one."""
        if self._unanswered:
            _, bound = self._unanswered.popleft()
            if not bound.done():
                bound.set_result(None)

    def _acknowledge(self) -> None:
        self._acknowledging = None
        if self._frames is None or self.is_over:
            return
        self._frames.acknowledge()
        if self._came >= _PREFETCH:
            self._look_soon()

    def _look_soon(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look(self._came_bytes / self._came))
        self._came = self._came_bytes = 0

    async def _look(self, mean_bytes: float) -> None:
        """Find out whether so many messages wait that the queue is half full."""
        with suppress(ClientError, TimeoutError), broker_errors():
            async with asyncio.timeout(TIMEOUT_S):
                found = await self._channel.queue_declare(self.name, passive=True)
            if (found.message_count or 0) * mean_bytes > _MOST_BYTES / 2:
                self._handlers.behind()

    def _over(self, closing: asyncio.Future[Any] | None) -> None:
        """Fail all who wait for a binding: the first for what the broker says, if it says why."""
        if self.is_over:
            return
        self.is_over = True
        if self._frames is not None:
            self._frames.stop()
        refused: dict[str, ClientError] = {}
        error = _reason(closing, self._exchange)
        for key, bound in self._unanswered:
            # Without an exchange, all keys are refused.
            is_its = isinstance(error, NothingToListenTo) or not refused
            if is_its and not isinstance(error, BrokerGone):
                refused[key] = error
            if not bound.done():
                bound.set_exception(refused.get(key) or BrokerGone())
        self._unanswered.clear()
        self._handlers.lost(self, refused)
        if closing is None:
            self._closing = asyncio.ensure_future(_closed(self._channel))


def _reason(closing: asyncio.Future[Any] | None, exchange: str) -> ClientError:
    """Return the client's error for the end of a channel."""
    error = None if closing is None or closing.cancelled() else closing.exception()
    if isinstance(error, ChannelNotFoundEntity):
        return NothingToListenTo(exchange)
    return BrokerRefused(str(error)) if isinstance(error, REFUSALS) else BrokerGone()


async def _closed(channel: AbstractChannel) -> None:
    try:
        with broker_errors():
            async with asyncio.timeout(TIMEOUT_S):
                await channel.close()
    except (ClientError, TimeoutError):
        return


async def _unused(_: object) -> None:
    """Deliveries never reach aiormq."""
