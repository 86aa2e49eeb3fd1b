"""Publish single messages, any number at a time.

aiormq writes one message of a channel after the other, and lets the next one begin some rounds of
the event loop later. Here a message only waits for its own confirm.
"""

from typing import cast

from aio_pika import Message
from aio_pika.abc import AbstractChannel
from aiormq import Channel
from aiormq.abc import ConfirmationFrameType


async def publish_confirmed(
    channel: AbstractChannel, message: Message, exchange: str, key: str
) -> ConfirmationFrameType | None:
    """Publish a message that must reach a queue, and return the broker's answer.

    Args:
        channel: A channel with publisher confirms.
        message: The message.
        exchange: The exchange; empty for the default one.
        key: The routing key.

    Returns:
        The returned message, a `DeliveredMessage`, if no queue took it; otherwise the confirm.

    Raises:
        DeliveryError: A queue nacked it, or it was returned on a channel that raises for that.
        AMQPError, ChannelInvalidStateError: The channel closed.
    """
    # The abstract class does not know `wait`.
    sender = cast("Channel", await channel.get_underlay_channel())
    return await sender.basic_publish(
        message.body,
        exchange=exchange,
        routing_key=key,
        properties=message.properties,
        mandatory=True,
        wait=False,
    )
