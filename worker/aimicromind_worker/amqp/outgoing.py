"""What those who publish now and then need of the connection that others keep open."""

from typing import Protocol

from aio_pika import Message


class Outgoing(Protocol):
    """Publishes messages one by one."""

    @property
    def frame_max(self) -> int:
        """Most bytes of one frame that the broker takes."""

    async def publish(self, message: Message, exchange: str, key: str) -> None:
        """Publish a message and have that confirmed; wait while that cannot be done.

        Raises:
            DeliveryError: No queue took it, or one refused it.
            ConnectionError: There is no way.
        """
