"""Publish failed events to delay queues and dead letters, each confirmed."""

from typing import Final

import aio_pika
from aiormq.abc import DeliveredMessage

from aimicromind_schemas.client.connection import broker_errors
from aimicromind_schemas.client.errors import BrokerGone
from aimicromind_schemas.client.publishing import ConfirmedChannel

# A broker with an alarm confirms nothing until the alarm ends.
_CONFIRMED_WITHIN_S: Final = 300.0


class FailedEvents:
    """Publishes to the exchange of one consumer."""

    def __init__(self, channel: ConfirmedChannel, exchange: str) -> None:
        self._channel = channel
        self._exchange = exchange

    async def publish(self, message: aio_pika.Message, queue: str) -> None:
        """Publish a message, and return once the broker has confirmed it.

        Raises:
            BrokerGone: It is not confirmed: the connection closed, or the queue does not exist.
            BrokerUnreachable: No broker answers; nothing was sent.
            BrokerRefused: The user lacks a permission.
        """
        channel = await self._channel.opened()
        with broker_errors():
            to = await channel.get_exchange(self._exchange, ensure=False)
            answer = await to.publish(message, queue, mandatory=True, timeout=_CONFIRMED_WITHIN_S)
        if isinstance(answer, DeliveredMessage):
            raise BrokerGone

    async def close(self) -> None:
        """Close the channel."""
        await self._channel.close()
