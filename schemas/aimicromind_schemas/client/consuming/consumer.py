"""Take the events of a consumer's queue, those of a chat one by one, and settle each.

Invariants:

- An event is acknowledged after its handler returned, or after the broker confirmed its message in
  a delay queue or in the dead letters. Everything else is redelivered.
- At most one event of a chat is with its handler, also while the connection is lost and opened
  again. Events of a chat are handled in the order of their delivery.
- What a handler returned for is remembered. Thus it is not handled again where it could not be
  acknowledged.
- Once `stop` was called, no handler is called.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from aiormq.abc import DeliveredMessage

from aimicromind_schemas.client.connection import ClientConnection
from aimicromind_schemas.client.consuming.failed_events import FailedEvents
from aimicromind_schemas.client.consuming.failures import (
    ConsumerFailureKind,
    Failure,
    attempts_before,
    failed,
    returns_of,
)
from aimicromind_schemas.client.consuming.handling import UNREADABLE, Handling
from aimicromind_schemas.client.consuming.options import ConsumerCounts
from aimicromind_schemas.client.consuming.queues import ConsumerQueues
from aimicromind_schemas.client.delivery import Delivery
from aimicromind_schemas.client.errors import BrokerGone
from aimicromind_schemas.client.live.live_events import PAUSE_S
from aimicromind_schemas.client.subscription import Subscription
from aimicromind_schemas.client.transport.message_header import noted

_log = logging.getLogger(__name__)

# Events that wait for their chat must not keep those of other chats from being delivered.
_PREFETCHED: Final = 10
_REMEMBERED: Final = 10_000
# Below the queue's own limit, beyond which the broker would dead-letter without a reason.
_MOST_RETURNS: Final = 15
_RETURNED: Final = Failure(
    ConsumerFailureKind.DELIVERY_LIMIT,
    f"it was requeued {_MOST_RETURNS} times: a handler of it may have ended the process",
)
_PAUSE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Got:
    """An event as it was delivered, and where to settle it."""

    message: DeliveredMessage
    delivery: Delivery
    subscription: Subscription


class Consumer:
    """One consumer. `run` it once, and `stop` it from anywhere in the event loop."""

    def __init__(
        self,
        connection: ClientConnection,
        queues: ConsumerQueues,
        failed_events: FailedEvents,
        handling: Handling,
        counts: ConsumerCounts,
    ) -> None:
        self._connection = connection
        self._queues = queues
        self._failed_events = failed_events
        self._handling = handling
        self._counts = counts
        self._stopped = asyncio.Event()
        self._slots = asyncio.Semaphore(queues.options.at_once)
        self._chats: dict[str, deque[_Got]] = {}
        self._busy: set[asyncio.Task[None]] = set()
        self._handled: OrderedDict[str, None] = OrderedDict()
        self._subscription: Subscription | None = None

    def stop(self) -> None:
        """Make `run` return once no handler runs, or after the time to drain."""
        self._stopped.set()

    async def run(self) -> None:
        """Handle events until `stop` is called; across lost connections.

        Raises:
            NothingToListenTo, BrokerUnreachable, BrokerRefused: See `Client.consume`.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                reading = tasks.create_task(self._read(tasks))
                await self._stopped.wait()
                reading.cancel()
                await self._drain()
        except BaseExceptionGroup as group:
            raise group.exceptions[0] from None
        finally:
            await self._close()

    async def _drain(self) -> None:
        self._forget_waiting()
        if self._busy:
            await asyncio.wait(self._busy, timeout=self._queues.options.drain.total_seconds())
        for task in self._busy:
            task.cancel()

    async def _read(self, tasks: asyncio.TaskGroup) -> None:
        while True:
            try:
                subscription = await self._open()
                while True:
                    self._take(await subscription.next(), subscription, tasks)
            except BrokerGone:
                # The broker redelivers them.
                self._forget_waiting()
                await asyncio.sleep(PAUSE_S)

    async def _open(self) -> Subscription:
        await self._close()
        connection = await self._connection.connection()
        await self._queues.declare(connection)
        prefetch = self._queues.options.at_once * _PREFETCHED
        opened = await Subscription.open(connection, self._queues.bound(), prefetch)
        self._subscription = opened
        return opened

    async def _close(self) -> None:
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            await subscription.close()

    def _take(
        self, message: DeliveredMessage, subscription: Subscription, tasks: asyncio.TaskGroup
    ) -> None:
        got = _Got(message, Delivery.of_aiormq(message), subscription)
        event = got.delivery.event()
        chat = "" if event is None else event.chat_id
        if (waiting := self._chats.get(chat)) is not None:
            waiting.append(got)
            return
        self._chats[chat] = deque([got])
        task = tasks.create_task(self._one_by_one(chat))
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)

    def _forget_waiting(self) -> None:
        for waiting in self._chats.values():
            waiting.clear()

    async def _one_by_one(self, chat: str) -> None:
        waiting = self._chats[chat]
        try:
            while waiting:
                async with self._slots:
                    if waiting:
                        await self._settle(waiting.popleft())
        finally:
            del self._chats[chat]

    async def _settle(self, got: _Got) -> None:
        message_id = got.delivery.labels.message_id
        if message_id in self._handled:
            self._counts.repeats += 1
        elif (failure := await self._failure_of(got)) is None:
            self._counts.handled += 1
            self._remember(message_id)
        elif not await self._pass_on(got, failure):
            return
        with suppress(BrokerGone):
            await got.subscription.acknowledge(got.message, alone=True)

    async def _failure_of(self, got: _Got) -> Failure | None:
        event = got.delivery.event()
        if event is None:
            return UNREADABLE
        if returns_of(got.message) >= _MOST_RETURNS:
            return _RETURNED
        return await self._handling.failure_of(event)

    async def _pass_on(self, got: _Got, failure: Failure) -> bool:
        """Return whether the event is in a delay queue or in the dead letters now."""
        if noted(got.message.header.properties.headers).body_bytes is not None:
            # Only its beginning is here: the broker dead-letters it whole.
            with suppress(BrokerGone):
                await got.subscription.reject(got.message)
            return False
        attempts = attempts_before(got.message) + failure.is_of_handler
        delay = None if failure.is_final else self._queues.delay(attempts)
        message = failed(got.message, failure, attempts, self._queues.queue)
        while not got.subscription.has_ended:
            try:
                await self._failed_events.publish(message, delay or self._queues.dead)
            except BrokerGone:
                await asyncio.sleep(_PAUSE_S)
                await self._declare_again()
                continue
            self._count(got, failure, delay)
            return True
        return False

    async def _declare_again(self) -> None:
        with suppress(BrokerGone):
            await self._queues.declare(await self._connection.connection())

    def _count(self, got: _Got, failure: Failure, delay: str | None) -> None:
        # Without the error's text, which might quote the event.
        where, message_id = failure.where or failure.message, got.delivery.labels.message_id
        if delay is None:
            self._counts.dead += 1
            _log.error("%r went to %s: %s", message_id, self._queues.dead, where)
        else:
            self._counts.retried += 1
            _log.warning("%r went to %s: %s", message_id, delay, where)

    def _remember(self, message_id: str) -> None:
        if message_id:
            self._handled[message_id] = None
        if len(self._handled) > _REMEMBERED:
            self._handled.popitem(last=False)
