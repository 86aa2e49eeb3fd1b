"""What the tests of consumers share: events on the exchange, a consumer that runs, dead letters."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import aio_pika

from aimicromind_schemas import (
    EndData,
    EndEvent,
    EndStatus,
    Event,
    Message,
    Names,
    TokenEvent,
    encode,
)
from aimicromind_schemas.client import Client, ConsumerCounts, ConsumerOptions, Handler
from aimicromind_worker.amqp.connection import BrokerConnection
from tests.integration.stage import Stage
from tests.support.amqp import WITHIN_S

SOON = (timedelta(milliseconds=200), timedelta(milliseconds=400))
NAME = "billing"


class Consuming:
    """A consumer that runs in a task of its own.

    Attributes:
        counts: Its counts.
        task: The task.
        events: Events whose handler returned, in that order.
    """

    def __init__(
        self, client: Client, handlers: Mapping[str, Handler], options: ConsumerOptions
    ) -> None:
        self.counts = ConsumerCounts()
        self.task = asyncio.create_task(client.consume(NAME, handlers, options, counts=self.counts))

    async def stop(self) -> None:
        """Cancel it, and wait until it has drained."""
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(self.task, WITHIN_S)


@asynccontextmanager
async def consuming(
    client: Client, handlers: Mapping[str, Handler], options: ConsumerOptions | None = None
) -> AsyncIterator[Consuming]:
    consumer = Consuming(client, handlers, options or ConsumerOptions(retry_after=SOON))
    try:
        yield consumer
    finally:
        await consumer.stop()


def an_end(number: int, chat: str | None = None) -> EndEvent:
    data = EndData(
        status=EndStatus.COMPLETED,
        attempts=1,
        calls=1,
        events=1,
        duration_seconds=0.1,
        text=f"answer {number}",
        recovered=False,
        tags={},
    )
    return EndEvent(**_envelope(number, chat), event="end", seq=1, data=data)


def a_token(number: int, chat: str, seq: int) -> TokenEvent:
    return TokenEvent(**_envelope(number, chat), event="token", seq=seq, data=f"tok{seq}")


async def publish(connection: BrokerConnection, names: Names, events: Iterable[Event]) -> None:
    """Publish events as a worker does; all are confirmed once this returns."""
    async with connection.channel() as channel:
        exchange = await channel.get_exchange(names.events)
        messages = map(encode, events)
        await asyncio.gather(*(exchange.publish(_sent(it), it.routing_key) for it in messages))


async def consumed(stage: Stage, replicas: int = 1, name: str = NAME) -> None:
    """Wait until so many replicas consume the queue."""
    queue = stage.names.consumer(name)
    async with asyncio.timeout(WITHIN_S):
        while True:
            with suppress(aio_pika.exceptions.ChannelNotFoundEntity):
                async with stage.connection.channel() as channel:
                    found = await channel.declare_queue(queue, passive=True)
                if found.declaration_result.consumer_count == replicas:
                    return
            await asyncio.sleep(0.02)


async def dead_letters(stage: Stage, count: int) -> list[tuple[Any, Mapping[str, Any]]]:
    """Wait for so many dead letters, and take all: their events and headers."""
    taken: list[tuple[Any, Mapping[str, Any]]] = []
    async with asyncio.timeout(WITHIN_S), stage.connection.channel() as channel:
        queue = await channel.get_queue(stage.names.consumer_dead(NAME), ensure=False)
        while len(taken) < count:
            message = await queue.get(fail=False)
            if message is None:
                await asyncio.sleep(0.05)
                continue
            await message.ack()
            with suppress(ValueError):
                taken.append((json.loads(message.body), message.headers))
                continue
            taken.append((message.body, message.headers))
    return taken


async def remove(stage: Stage, options: ConsumerOptions | None = None, name: str = NAME) -> None:
    """Delete what the consumer declared."""
    delays = (options or ConsumerOptions(retry_after=SOON)).retry_after
    names = stage.names
    async with stage.connection.channel() as channel:
        for queue in (
            names.consumer(name),
            names.consumer_dead(name),
            *(names.consumer_delay(name, delay) for delay in delays),
        ):
            await channel.queue_delete(queue)
        await channel.exchange_delete(names.consumer(name))


def _sent(message: Message) -> aio_pika.Message:
    said = message.properties
    return aio_pika.Message(
        message.body,
        headers=dict(said.headers),
        message_id=said.message_id,
        type=said.type,
        correlation_id=said.correlation_id,
        content_type=said.content_type,
        delivery_mode=said.delivery_mode,
    )


def _envelope(number: int, chat: str | None) -> dict[str, Any]:
    return {
        "job_id": f"job-{number}",
        "chat_id": chat or f"chat-{number}",
        "chatflow_id": "flow",
        "attempt": 1,
        "time": datetime.now(UTC),
    }
