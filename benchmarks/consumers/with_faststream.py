"""A FastStream subscriber as its tutorial has it, on a quorum queue.

Usage: python -m benchmarks.consumers.with_faststream AMQP_URL PREFIX FILE
"""

import asyncio
import sys

from faststream import FastStream
from faststream.rabbit import (
    Channel,
    ExchangeType,
    QueueType,
    RabbitBroker,
    RabbitExchange,
    RabbitQueue,
)

from aimicromind_schemas import EndEvent
from benchmarks.consumers.work import AT_ONCE, Work


async def main(url: str, prefix: str, noted_in: str) -> None:
    work = Work(noted_in)
    broker = RabbitBroker(url, default_channel=Channel(AT_ONCE), logger=None)
    name = f"{prefix}.consumers.billing"
    queue = RabbitQueue(name, queue_type=QueueType.QUORUM, durable=True, routing_key="chat.*.end")
    exchange = RabbitExchange(f"{prefix}.events", type=ExchangeType.TOPIC, durable=True)

    async def on_end(event: EndEvent) -> None:
        await work.on_end(event.job_id)

    broker.subscriber(queue, exchange)(on_end)
    await FastStream(broker, logger=None).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
