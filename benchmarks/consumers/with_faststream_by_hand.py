"""A FastStream subscriber with delay queues and dead letters written by hand.

Usage: python -m benchmarks.consumers.with_faststream_by_hand AMQP_URL PREFIX FILE
"""

import asyncio
import sys
from typing import Any

from faststream import AckPolicy, FastStream
from faststream.rabbit import (
    Channel,
    ExchangeType,
    QueueType,
    RabbitBroker,
    RabbitExchange,
    RabbitMessage,
    RabbitQueue,
)

from aimicromind_schemas import EndEvent
from benchmarks.consumers.work import AT_ONCE, DELAYS_MS, Work


async def main(url: str, prefix: str, noted_in: str) -> None:
    work, channel = Work(noted_in), Channel(AT_ONCE)
    broker = RabbitBroker(url, default_channel=channel, logger=None)
    name = f"{prefix}.consumers.billing"
    exchange = RabbitExchange(f"{prefix}.events", type=ExchangeType.TOPIC, durable=True)
    queue = quorum(name, {"x-delivery-limit": 20}, routing_key="chat.*.end")
    back = {
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": "",
        "x-dead-letter-routing-key": name,
        "x-dead-letter-strategy": "at-least-once",
    }
    delays = [quorum(f"{name}.delay.{it}", {**back, "x-message-ttl": it}) for it in DELAYS_MS]
    dead = quorum(f"{name}.dead", {"x-delivery-limit": 1_000_000})

    async def on_end(event: EndEvent, message: RabbitMessage) -> None:
        try:
            await work.on_end(event.job_id)
        except Exception as error:  # noqa: BLE001 - any failure is retried
            attempts = int(message.headers.get("x-aimicromind-attempts", 0)) + 1
            to = delays[attempts - 1] if attempts <= len(delays) else dead
            await broker.publish(
                message.body,
                queue=to,
                headers={
                    "x-aimicromind-attempts": attempts,
                    "x-aimicromind-kind": "handler_failed",
                    "x-aimicromind-message": str(error),
                },
                content_type="application/json",
                message_id=message.message_id,
                persist=True,
            )
        await message.ack()

    async def declare() -> None:
        await asyncio.gather(*(broker.declare_queue(each) for each in (*delays, dead)))

    broker.subscriber(queue, exchange, ack_policy=AckPolicy.MANUAL)(on_end)
    await FastStream(broker, logger=None, after_startup=[declare]).run()


def quorum(name: str, arguments: dict[str, Any], routing_key: str = "") -> RabbitQueue:
    return RabbitQueue(
        name,
        queue_type=QueueType.QUORUM,
        durable=True,
        arguments=arguments,
        routing_key=routing_key,
    )


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
