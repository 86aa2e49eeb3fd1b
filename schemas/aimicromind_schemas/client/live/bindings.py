"""Bind a queue to any number of keys and unbind it, without waiting for one answer at a time.

A channel of its own carries this: RabbitMQ 3.10 carries out some 1,600 bindings a second, and
acknowledgements behind thousands of them would hold up the deliveries.

Invariants:

- The broker carries out the methods of a channel in their order, and answers in that order. Thus an
  answer is that of the first request without one.
- If the broker refuses a request, it closes the channel, and carries out nothing that came behind.
  All of that is sent again on the next channel.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from aiormq.abc import AbstractChannel
from aiormq.exceptions import ChannelNotFoundEntity
from pamqp import commands
from pamqp.frame import marshal

from aimicromind_schemas.client.connection import (
    REFUSALS,
    TIMEOUT_S,
    broker_errors,
)
from aimicromind_schemas.client.errors import (
    BrokerGone,
    BrokerRefused,
    ClientError,
    NothingToListenTo,
)
from aimicromind_schemas.client.transport.demultiplexer import method_of
from aimicromind_schemas.client.transport.message_guard import method_number
from aimicromind_schemas.client.transport.opening import close_channel, open_channel
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection

_ANSWERS: Final = {
    method_number(method) for method in (commands.Queue.BindOk, commands.Queue.UnbindOk)
}

# Thousands at once would keep the broker from routing events for a second.
_UNBOUND_EVERY_S: Final = 0.05
_AT_A_TIME: Final = 10
_SHARE: Final = 100

_Request = tuple[commands.Queue.Bind | commands.Queue.Unbind, asyncio.Future[None]]


class Bindings:
    """The bindings of one queue to one exchange. `open` it once."""

    def __init__(self, connection: GuardedConnection, exchange: str) -> None:
        self._connection = connection
        self._exchange = exchange
        self._queue = ""
        self._lost: Callable[[], None] = lambda: None
        self._channel: AbstractChannel | None = None
        self._opening: asyncio.Future[None] | None = None
        self._is_over = False
        self._bound: dict[str, asyncio.Future[None]] = {}
        self._unneeded: dict[str, None] = {}
        self._unbinding: asyncio.TimerHandle | None = None
        self._unanswered: deque[_Request] = deque()

    async def open(self, queue: str, lost: Callable[[], None]) -> None:
        """Open the channel.

        Args:
            queue: Name of the queue.
            lost: Called if the channel closed, and no other can be opened.

        Raises:
            BrokerGone: The connection closed.
            BrokerRefused: A limit is reached.
        """
        self._queue, self._lost = queue, lost
        with broker_errors():
            async with asyncio.timeout(TIMEOUT_S):
                channel = await open_channel(self._connection)
        handlers = self._connection.wire.demultiplexer.handlers
        handlers[channel.number] = self

        def closed(closing: asyncio.Future[Any]) -> None:
            if handlers.get(channel.number) is self:
                del handlers[channel.number]
            self._closed(closing)

        self._channel = channel
        channel.closing.add_done_callback(closed)
        for request, _ in self._unanswered:
            self._send(request)

    def bound(self, key: str) -> asyncio.Future[None]:
        """Return a future that is done once a key is bound; bind it if nobody has.

        It raises BrokerGone, NothingToListenTo (there is no such exchange) or BrokerRefused.
        """
        self._unneeded.pop(key, None)
        bound = self._bound.get(key)
        if bound is None:
            bound = self._request(commands.Queue.Bind(0, self._queue, self._exchange, key))
            self._bound[key] = bound
            bound.add_done_callback(lambda it: self._forget_failed(key, it))
        return bound

    def unbind(self, key: str) -> None:
        """Remove a binding soon, unless it is wanted again. Messages may still come by it."""
        if key in self._bound and not self._is_over:
            self._unneeded[key] = None
            self._unbind_later()

    def over(self) -> None:
        """Fail all who wait, and close the channel: the queue is gone."""
        self._is_over = True
        self._unneeded.clear()
        while self._unanswered:
            self._answer(BrokerGone())
        if self._channel is not None:
            self._opening = asyncio.ensure_future(close_channel(self._channel))

    def take(self, frame: bytes) -> bool:
        """Take an answer; all other frames are aiormq's."""
        if method_of(frame) not in _ANSWERS:
            return False
        if self._unanswered:
            self._answer(None)
        return True

    def _unbind_later(self) -> None:
        if self._unbinding is None:
            loop = asyncio.get_running_loop()
            self._unbinding = loop.call_later(_UNBOUND_EVERY_S, self._unbind_some)

    def _unbind_some(self) -> None:
        self._unbinding = None
        for key in list(self._unneeded)[: max(_AT_A_TIME, len(self._unneeded) // _SHARE)]:
            del self._unneeded[key]
            if self._bound.pop(key, None) is not None:
                self._request(commands.Queue.Unbind(0, self._queue, self._exchange, key))
        if self._unneeded:
            self._unbind_later()

    def _request(self, method: commands.Queue.Bind | commands.Queue.Unbind) -> asyncio.Future[None]:
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        # Whoever asked may be gone when it fails.
        answer.add_done_callback(lambda it: it.cancelled() or it.exception())
        self._unanswered.append((method, answer))
        if self._is_over:
            self._answer(BrokerGone())
        else:
            self._send(method)
        return answer

    def _send(self, method: commands.Queue.Bind | commands.Queue.Unbind) -> None:
        if self._channel is not None:
            self._connection.wire.write(marshal(method, self._channel.number))

    def _answer(self, error: ClientError | None) -> None:
        """Answer the first request that has no answer."""
        _, answer = self._unanswered.popleft()
        if answer.done():
            return
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)

    def _forget_failed(self, key: str, bound: asyncio.Future[None]) -> None:
        if self._bound.get(key) is bound and (bound.cancelled() or bound.exception() is not None):
            del self._bound[key]

    def _closed(self, closing: asyncio.Future[Any]) -> None:
        """Inform who asked for what the broker refused, and open the next channel."""
        self._channel = None
        if self._is_over:
            return
        error = _reason(closing, self._exchange)
        if self._unanswered and not isinstance(error, BrokerGone):
            self._answer(error)
        self._opening = asyncio.ensure_future(self._open_again())

    async def _open_again(self) -> None:
        try:
            await self.open(self._queue, self._lost)
        except ClientError:
            self._lost()


def _reason(closing: asyncio.Future[Any], exchange: str) -> ClientError:
    """Return the client's error for the end of a channel."""
    error = None if closing.cancelled() else closing.exception()
    if isinstance(error, ChannelNotFoundEntity):
        return NothingToListenTo(exchange)
    return BrokerRefused(str(error)) if isinstance(error, REFUSALS) else BrokerGone()
