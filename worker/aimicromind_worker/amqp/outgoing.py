"""Protocol for publishing single messages on the connection of events."""

from typing import Protocol

from aio_pika import Message


class Outgoing(Protocol):
    """The publisher of single messages: jobs, markers and records."""

    @property
    def frame_max(self) -> int:
        """The largest frame that the broker takes, in bytes."""

    async def publish(self, message: Message, exchange: str, key: str) -> None:
        """Publish a message and wait for its confirm, also while the connection is opened again.

        Args:
            message: The message.
            exchange: The exchange; empty: the default exchange.
            key: The routing key.

        Raises:
            DeliveryError: The broker returned or nacked the message.
            ConnectionError: The message could not be published in time.
        """
