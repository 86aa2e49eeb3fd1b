"""All that an end-to-end test needs, under names that no other test has."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker, ScriptedEndpoint
from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.amqp.declaring import declare, remove
from aimicromind_worker.app.broker import needed_topology
from aimicromind_worker.app.settings import Settings
from tests.integration.workers import Chats, chats_of, working
from tests.support.amqp import put_job


@dataclass(frozen=True)
class Stage:
    """A broker, an endpoint, and a connection of the test's own."""

    broker: PrivateBroker
    endpoint: ScriptedEndpoint
    names: Names
    connection: BrokerConnection

    def settings(self, **changed: Any) -> Settings:  # noqa: ANN401 - named in Settings
        usual: dict[str, Any] = {
            "amqp_url": self.broker.url,
            "base_url": self.endpoint.url,
            "prefix": self.names.prefix,
            "concurrency": 8,
            "drain_seconds": 5,
        }
        return Settings.read(**(usual | changed))

    @asynccontextmanager
    async def working(self, **changed: Any) -> AsyncIterator[Chats]:  # noqa: ANN401 - named in Settings
        """Have a worker that takes jobs, and listen to all chats."""
        async with working(self.settings(**changed)), self.listening() as chats:
            yield chats

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Chats]:
        """Listen to all chats, also before there is a worker."""
        await declare(self.connection, needed_topology(self.settings()))
        async with chats_of(self.connection, self.names) as chats:
            yield chats

    async def put(self, body: bytes, **properties: Any) -> None:  # noqa: ANN401 - as aio_pika takes them
        await put_job(self.connection, self.names, body, **properties)

    async def clear(self) -> None:
        """Delete what the workers declared."""
        await remove(self.connection, needed_topology(self.settings()))
