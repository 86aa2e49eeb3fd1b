"""What the client's tests share: a client, and what it must have seen."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from aimicromind_schemas import Event, PredictionJob, event_from
from aimicromind_schemas.client import Client, Gap
from aimicromind_testing import PrivateBroker
from tests.integration.stage import Stage
from tests.integration.workers import Chats
from tests.support.amqp import WITHIN_S
from tests.support.proxy import Proxy

WITHIN = timedelta(seconds=WITHIN_S)
LIVE, STREAMS = "aimicromind client, events", "aimicromind client, streams"


@asynccontextmanager
async def client_of(stage: Stage, url: str | None = None) -> AsyncIterator[Client]:
    async with Client.open(url or stage.broker.url, stage.names.prefix, WITHIN) as client:
        yield client


def a_job(**fields: object) -> PredictionJob:
    unique = uuid4().hex[:8]
    usual = {"chatflow_id": "flow", "question": "Why?", "job_id": f"job-{unique}"}
    return PredictionJob.model_validate(usual | {"chat_id": f"chat-{unique}"} | fields)


async def published(chats: Chats, job_id: str) -> list[Event]:
    """Give what one who was always there has of a job, once it has ended."""
    await chats.end_of(job_id)
    return [event_from(body) for body in chats.of(job_id)]


async def all_of(items: AsyncIterator[Event | Gap]) -> list[Event | Gap]:
    return [item async for item in items]


async def filters(broker: PrivateBroker) -> bool:
    """Tell whether the broker leaves out of a stream what a reader does not want."""
    major, minor = (await broker.rabbitmqctl("version")).split(".")[:2]
    return (int(major), int(minor)) >= (3, 13)


class PassingOver:
    """Has the broker read the next stream from a time to come, which is from its next message on.

    Attributes:
        done: Set once it was asked to.
    """

    def __init__(self, proxy: Proxy) -> None:
        self.done = asyncio.Event()
        proxy.alter = self._alter

    def _alter(self, data: bytes) -> bytes:
        name = b"x-stream-offsetT"
        if self.done.is_set() or name not in data:
            return data
        self.done.set()
        before, after = data.split(name, 1)
        in_a_year = int((datetime.now(UTC) + timedelta(days=365)).timestamp())
        return before + name + in_a_year.to_bytes(8, "big") + after[8:]
