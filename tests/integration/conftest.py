"""What integration tests start from: a connection of their own, and the topology on it."""

import os
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from aio_pika.abc import AbstractConnection

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker, ScriptedEndpoint
from aimicromind_worker.amqp.connection import BrokerConnection, connect
from aimicromind_worker.amqp.declaring import declare, remove
from aimicromind_worker.amqp.topology import Retention, topology
from tests.integration.stage import Stage
from tests.integration.wire import Wire
from tests.support.amqp import BEAT


@pytest.fixture
def no_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """No certificate of the machine is trusted; reading them all takes a while, each time."""
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    monkeypatch.setenv("SSL_CERT_DIR", os.devnull)


@pytest_asyncio.fixture
async def connection(broker: PrivateBroker) -> AsyncIterator[BrokerConnection]:
    """The test's own way to the broker, beside those of what it tests."""
    async with connect([broker.url], "test", BEAT) as opened:
        yield opened


@pytest_asyncio.fixture
async def declared(connection: AbstractConnection, names: Names) -> AsyncIterator[Names]:
    """Names of exchanges and queues that are there."""
    wanted = topology(names, Retention("1h", 10_000_000))
    await declare(connection, wanted)
    yield names
    await remove(connection, wanted)


@pytest.fixture
def wire(broker: PrivateBroker, declared: Names, connection: BrokerConnection) -> Wire:
    """The topology on the broker, for an adapter to use."""
    return Wire(broker, declared, connection)


@pytest_asyncio.fixture
async def endpoint() -> AsyncIterator[ScriptedEndpoint]:
    """An endpoint of the test's own."""
    async with ScriptedEndpoint() as server:
        yield server


@pytest_asyncio.fixture
async def stage(
    broker: PrivateBroker,
    endpoint: ScriptedEndpoint,
    names: Names,
    connection: BrokerConnection,
    no_certificates: None,
) -> AsyncIterator[Stage]:
    """All of these, for a worker to run on."""
    prepared = Stage(broker, endpoint, names, connection)
    yield prepared
    await prepared.clear()
