"""What tests of adapters use: the topology on a broker, and a connection of the test's own."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aio_pika.abc import AbstractIncomingMessage

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.connection import BrokerConnection
from tests.integration.job_bodies import Jobs, jobs_at
from tests.integration.outgoing import Way, publishing_at
from tests.support import amqp
from tests.support.amqp import Inbox


@dataclass(frozen=True)
class Wire:
    """The queues and exchanges of these names are there."""

    broker: PrivateBroker
    names: Names
    connection: BrokerConnection

    async def put(self, body: bytes, **properties: Any) -> None:  # noqa: ANN401 - as aio_pika takes them
        await amqp.put_job(self.connection, self.names, body, **properties)

    async def in_queue(self, queue: str) -> int:
        return await amqp.in_queue(self.connection, queue)

    async def until_in_queue(self, queue: str, count: int) -> None:
        await amqp.until_in_queue(self.connection, queue, count)

    async def first_in(self, queue: str) -> AbstractIncomingMessage:
        return await amqp.first_in(self.connection, queue)

    def reading(self, queue: str) -> AbstractAsyncContextManager[Inbox]:
        return amqp.reading(self.connection, queue)

    def jobs(
        self, url: str | None = None, slots: int = 1, publishing_url: str | None = None
    ) -> AbstractAsyncContextManager[Jobs]:
        """Open a source of jobs, whose deliveries the test takes."""
        return jobs_at(url or self.broker.url, self.names, slots, publishing_url)

    def publishing(
        self,
        url: str | None = None,
        **options: Any,  # noqa: ANN401 - named in publishing_at
    ) -> AbstractAsyncContextManager[Way]:
        """Keep a connection for publishing open."""
        return publishing_at(url or self.broker.url, self.names, **options)

    @asynccontextmanager
    async def events(
        self,
        url: str | None = None,
        **options: Any,  # noqa: ANN401 - named in publishing_at
    ) -> AsyncIterator[tuple[Way, Inbox]]:
        """Keep a connection for publishing open, and hear all events."""
        async with (
            amqp.listening(self.connection, self.names.events) as box,
            self.publishing(url, **options) as way,
        ):
            yield way, box
