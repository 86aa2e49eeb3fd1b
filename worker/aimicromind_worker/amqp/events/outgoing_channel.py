"""Publish jobs, markers and requests on the connection of the events, each confirmed.

What was in flight when a channel or connection was lost is sent again, one message at a time. Thus
the message for which the broker closes it is found. After the second close it is not sent again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import islice

from aio_pika import Message
from aio_pika.abc import AbstractChannel
from aiormq.exceptions import ChannelAccessRefused, DeliveryError

from aimicromind_schemas.client.transport.cancelling import is_cancelled
from aimicromind_schemas.client.transport.publishing import publish_confirmed
from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.amqp.events.publisher_link import (
    LOST,
    PublisherLink,
    PublisherLost,
    closed_on_us,
    sentence,
)
from aimicromind_worker.amqp.waiting import Waiting

_OPEN_TIMEOUT_S = 20.0
# Closes after which a message is at fault: at the second, no other was in flight beside it.
_CLOSED_FOR_ONE = 2


class CannotBePublished(Exception):
    """The broker closes each channel or connection on which a message is published."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the broker refuses a message whenever it is published: {reason}")


class OutgoingChannel:
    """Publishes any number of messages at a time, over all connections of a link.

    Attributes:
        messages_at_fault: For how many messages the broker was found to close connections.
    """

    def __init__(
        self,
        link: PublisherLink,
        usable: Callable[[], Awaitable[None]],
        note_loss: Callable[[], None],
    ) -> None:
        """Prepare; a channel is opened for the first message.

        Args:
            link: Opens the connections.
            usable: Waits until messages may be published.
            note_loss: Has `usable` wait until the next connection is open.
        """
        self.messages_at_fault = 0
        self._link = link
        self._usable = usable
        self._note_loss = note_loss
        self._opening = asyncio.Lock()
        self._channel: AbstractChannel | None = None
        self._of: BrokerConnection | None = None
        self._last_number = 0
        self._in_flight: dict[int, None] = {}
        self._in_doubt = 0
        self._alone = asyncio.Lock()

    @property
    def oldest(self) -> list[Waiting]:
        """The number of the message that has waited longest for its answer, if there is one."""
        return [
            Waiting(number, overtaken=self._last_number - number >= len(self._in_flight))
            for number in islice(self._in_flight, 1)
        ]

    async def publish(self, message: Message, exchange: str, key: str) -> None:
        """Publish a message, and wait for its confirm.

        Raises:
            DeliveryError: The message was returned or nacked.
            CannotBePublished: The broker closes the channel or the connection because of it.
            PublisherLost: The session is over, or a permission is missing.
        """
        closed, in_doubt = 0, False
        try:
            while True:
                await self._usable()
                # While any message is in doubt, they are published one after the other.
                async with self._alone if self._in_doubt else nullcontext():
                    loss = await self._try(message, exchange, key)
                    if loss is None:
                        return
                    self._in_doubt += not in_doubt
                    in_doubt = True
                closed += closed_on_us(loss)
                if closed == _CLOSED_FOR_ONE:
                    self.messages_at_fault += 1
                    raise CannotBePublished(sentence(loss))
        finally:
            self._in_doubt -= in_doubt

    async def _try(self, message: Message, exchange: str, key: str) -> BaseException | None:
        """Publish once; return the loss of the channel, if there was one meanwhile."""
        await self._usable()
        try:
            channel = await self._open_channel()
            with self._counted():
                await publish_confirmed(channel, message, exchange, key)
        except DeliveryError:
            raise
        except ChannelAccessRefused as error:
            raise PublisherLost(sentence(error)) from error
        except (*LOST, RuntimeError) as error:
            # aiormq raises RuntimeError until the link knows that its connection has closed.
            if is_cancelled():
                raise
            self._note_loss()
            return error
        return None

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a message, which is published while the body runs, among those in flight."""
        number = self._last_number = self._last_number + 1
        self._in_flight[number] = None
        try:
            yield
        finally:
            del self._in_flight[number]

    async def _open_channel(self) -> AbstractChannel:
        """Return the channel, a new one if the last has closed and its connection has not."""
        async with self._opening:
            connection = self._link.connection
            if connection is None:
                raise PublisherLost(self._link.lost)
            channel = self._channel
            if channel is None or channel.is_closed or self._of is not connection:
                async with asyncio.timeout(_OPEN_TIMEOUT_S):
                    channel = await connection.channel(on_return_raises=True)
                self._channel, self._of = channel, connection
            return channel
