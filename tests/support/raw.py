"""Messages as other clients write them: aio_pika gives each a message_id, pika does not."""

import asyncio
from typing import Any

import pika


async def put_raw(port: int, queue: str, body: bytes, **properties: Any) -> None:  # noqa: ANN401 - as pika takes them
    """Put a message on a queue with just these properties, and see to it that it is there."""
    await asyncio.to_thread(_put, port, queue, body, properties)


def _put(port: int, queue: str, body: bytes, properties: dict[str, Any]) -> None:
    with pika.BlockingConnection(pika.ConnectionParameters("127.0.0.1", port)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.basic_publish(
            "", queue, body, pika.BasicProperties(delivery_mode=2, **properties), mandatory=True
        )
