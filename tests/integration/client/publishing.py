"""Events of jobs that no worker runs, published straight to the exchange."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from aio_pika import Message

from aimicromind_schemas import (
    PARTITIONS,
    EndData,
    EndEvent,
    EndStatus,
    Event,
    TokenEvent,
    encode,
    partition_of,
)
from aimicromind_schemas.client.transport.publishing import publish_confirmed
from tests.integration.stage import Stage

_AT_ONCE = 500


def token(job_id: str, seq: int, *, chat_id: str | None = None, data: str = "Once") -> TokenEvent:
    return TokenEvent(
        job_id=job_id,
        chat_id=chat_id or job_id,
        chatflow_id="flow",
        attempt=1,
        seq=seq,
        time=datetime.now(UTC),
        event="token",
        data=data,
    )


def end(job_id: str, seq: int, *, chat_id: str | None = None) -> EndEvent:
    return EndEvent(
        job_id=job_id,
        chat_id=chat_id or job_id,
        chatflow_id="flow",
        attempt=1,
        seq=seq,
        time=datetime.now(UTC),
        event="end",
        data=EndData(
            status=EndStatus.COMPLETED,
            attempts=1,
            calls=1,
            events=seq + 1,
            duration_seconds=1.0,
            text="Once",
            recovered=False,
            tags={},
        ),
    )


def headers_of(event: Event) -> dict[str, Any]:
    """Give the headers that a worker writes."""
    partition = str(partition_of(event.chat_id, PARTITIONS))
    return dict(encode(event).properties.headers) | {"BCC": [partition]}


async def publish(stage: Stage, events: Iterable[Event]) -> None:
    """Publish events in their order, and wait for the confirms."""
    async with stage.connection.channel() as channel:
        waiting = []
        for event in events:
            message = encode(event)
            properties = message.properties
            sent = Message(
                message.body,
                headers=headers_of(event),
                message_id=properties.message_id,
                type=properties.type,
                timestamp=properties.timestamp,
                delivery_mode=properties.delivery_mode,
            )
            publishing = publish_confirmed(channel, sent, stage.names.events, message.routing_key)
            waiting.append(asyncio.ensure_future(publishing))
            if len(waiting) >= _AT_ONCE:
                await asyncio.gather(*waiting)
                waiting.clear()
        await asyncio.gather(*waiting)
