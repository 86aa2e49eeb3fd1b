"""Keep the connection open on which events and jobs are published.

After a loss, another connection is opened. What was not confirmed is sent again on it: consumers
may see a message twice, and miss none. Jobs go on meanwhile, until the window is full.
"""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from datetime import timedelta
from time import monotonic
from typing import Never

from aio_pika import Message
from aiormq.exceptions import ChannelAccessRefused

from aimicromind_schemas.client.transport.cancelling import is_cancelled
from aimicromind_worker.amqp.connection import BrokerConnection, PermissionMissing
from aimicromind_worker.amqp.declaring import declare
from aimicromind_worker.amqp.events.isolation import FramesTooLarge
from aimicromind_worker.amqp.events.message_publisher import MessagePublisher
from aimicromind_worker.amqp.events.outgoing_channel import OutgoingChannel
from aimicromind_worker.amqp.events.publisher_link import (
    LOST,
    PublisherLink,
    PublisherLost,
    closed_on_us,
    pause_s,
    sentence,
)
from aimicromind_worker.amqp.ownership import JobOwnership
from aimicromind_worker.amqp.topology import Topology
from aimicromind_worker.amqp.waiting import within

_PUBLISH_TIMEOUT = timedelta(minutes=5)
_STEADY_S = 30.0
# Then a message is at fault that was not found, and is sent again on each connection. The session
# ends, and the broker counts the deliveries of its jobs.
_CLOSED_IN_A_ROW = 4
_AT_ONCE_S = 5.0


class PublisherConnection:
    """Opens the connection, and another one after each loss. One for a session."""

    def __init__(
        self,
        connect: Callable[[], AbstractAsyncContextManager[BrokerConnection]],
        interval: timedelta,
        wanted: Topology,
        publisher: MessagePublisher,
        ownership: JobOwnership,
        waits_out: tuple[type[Exception], ...] = (),
    ) -> None:
        """Prepare; nothing is opened before `run`.

        Args:
            connect: Opens a connection for the body; called again after each loss.
            interval: Time between heartbeats.
            wanted: What is declared on each connection.
            publisher: Publishes on each of them.
            ownership: When it is lost, the connection is closed at once.
            waits_out: Errors after which another connection is tried, once there was one.
        """
        self._link = PublisherLink("events", connect, interval, publisher, ownership)
        self._wanted = wanted
        self._publisher = publisher
        self._ownership = ownership
        self._waits_out = waits_out
        self._is_usable = asyncio.Event()
        self._outgoing = OutgoingChannel(self._link, self.usable, self._is_usable.clear)
        self._is_over = False

    @property
    def frame_max(self) -> int:
        """Most bytes of one frame that the broker takes."""
        return self._publisher.sender.frame_max

    def obstacle(self) -> str | None:
        """Return why nothing can be published now; None if it can."""
        if self._link.connection is None:
            return self._link.lost
        if self._publisher.blocked:
            return "the broker takes no events: it has a memory or disk alarm"
        if not self._ownership.is_open():
            return "the broker is silent on the connection that jobs come by"
        return None

    async def usable(self) -> None:
        """Wait until there is no obstacle, and no address is searched that closes connections.

        Raises:
            PublisherLost: The session is over.
        """
        await self._is_usable.wait()
        if self._is_over:
            raise PublisherLost("the session is over")

    async def publish(self, message: Message, exchange: str, key: str) -> None:
        """Publish a message to one queue at least, and wait for its confirm.

        This waits while there is no connection, and while the broker has an alarm. A message
        that was in flight when the connection was lost may arrive twice.

        Raises:
            DeliveryError: The message was returned or nacked.
            CannotBePublished: The broker closes the channel or the connection because of it.
            PublisherLost: It could not be published for five minutes, alarms not counted; or a
                permission is missing.
        """
        try:
            await within(
                _PUBLISH_TIMEOUT,
                self._outgoing.publish(message, exchange, key),
                not_counting=lambda: self._publisher.blocked,
            )
        except TimeoutError as error:
            raise PublisherLost("nothing could be published for five minutes") from error

    async def run(self) -> Never:
        """Keep a connection open until an error ends it.

        Raises:
            BrokerUnreachable: The first connection could not be opened.
            BrokerRefused, PermissionMissing, TopologyDiffers, DeclarationRefused: Waiting would
                not help.
            FramesTooLarge: Another broker takes smaller frames than the events in flight have.
            PublisherLost: The broker closes one connection after the other for a message.
        """
        try:
            await self._keep_open()
        finally:
            self._is_over = True
            self._is_usable.set()

    async def _keep_open(self) -> Never:
        failures = closed_in_a_row = 0
        while True:
            began, at_fault = monotonic(), self._at_fault
            try:
                await self._one_connection()
            except ChannelAccessRefused as error:
                raise PermissionMissing(str(error)) from error
            except FramesTooLarge:
                raise
            except self._waits_out as error:
                if not self._link.was_open:
                    raise
                self._link.note_loss(error)
            except LOST as error:
                if is_cancelled() or not self._link.was_open:
                    raise
                self._link.note_loss(error)
                at_once = monotonic() - began < _AT_ONCE_S and self._at_fault == at_fault
                closed_in_a_row = closed_in_a_row + 1 if at_once and closed_on_us(error) else 0
                if closed_in_a_row == _CLOSED_IN_A_ROW:
                    raise PublisherLost(sentence(error)) from error
            failures = 0 if monotonic() - began > _STEADY_S else failures + 1
            await asyncio.sleep(pause_s(failures - 1))

    @property
    def _at_fault(self) -> int:
        """How many messages or addresses were found to have the broker close connections."""
        return self._publisher.addresses_at_fault + self._outgoing.messages_at_fault

    async def _one_connection(self) -> Never:
        try:
            await self._link.until_lost(
                self._prepare, self._note_obstacle, lambda: self._outgoing.oldest
            )
        finally:
            self._is_usable.clear()

    async def _prepare(self, connection: BrokerConnection) -> None:
        await declare(connection, self._wanted)
        self._publisher.counts.reconnected += self._link.was_open

    def _note_obstacle(self) -> None:
        if self.obstacle() is None and not self._publisher.sender.isolation.is_on:
            self._is_usable.set()
        else:
            self._is_usable.clear()
