"""What a scaler sees of workers that are busy: by the management API, and by AMQP."""

import asyncio
from collections.abc import AsyncIterator
from urllib.parse import quote

import httpx
import pytest
import pytest_asyncio

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker, ScriptedEndpoint, answer
from aimicromind_worker.amqp.connection import connect
from tests.integration.stage import Stage
from tests.integration.workers import working
from tests.support.amqp import BEAT, in_queue
from tests.support.builders import a_job

pytestmark = pytest.mark.timeout(120)

_RUNNING, _WAITING = 5, 3
# RabbitMQ tells its management API the numbers of a queue every five seconds.
_TOLD_WITHIN_S = 20.0


@pytest_asyncio.fixture
async def managed(names: Names) -> AsyncIterator[Stage]:
    """A stage on a broker with a management API."""
    async with (
        PrivateBroker(management=True) as broker,
        ScriptedEndpoint() as endpoint,
        connect([broker.url], "test", BEAT) as connection,
    ):
        yield Stage(broker, endpoint, names, connection)


async def told(stage: Stage, *wanted: int) -> None:
    """Wait until the management API says how many jobs there are, are ready, and are held."""
    path = f"/api/queues/%2F/{quote(stage.names.jobs, safe='')}"
    last: tuple[int, ...] = ()
    try:
        async with (
            asyncio.timeout(_TOLD_WITHIN_S),
            httpx.AsyncClient(base_url=stage.broker.management_url, trust_env=False) as client,
        ):
            while last != wanted:
                queue = (await client.get(path)).json()
                last = tuple(
                    queue.get(name, -1)
                    for name in ("messages", "messages_ready", "messages_unacknowledged")
                )
                await asyncio.sleep(0.1)
    except TimeoutError as error:
        raise AssertionError(f"it says {last} and not {wanted}") from error


async def test_only_the_management_api_counts_jobs_that_workers_hold(managed: Stage) -> None:
    managed.endpoint.flow("flow", answer(10_000, rate=10))
    async with working(managed.settings(concurrency=_RUNNING)):
        for number in range(_RUNNING):
            await managed.put(a_job(chatId=f"chat-{number}", jobId=f"job-{number}"))
        await managed.endpoint.called(_RUNNING)

        # Busy to the last slot, nobody waits: by AMQP alone it looks idle.
        await told(managed, _RUNNING, 0, _RUNNING)
        assert await in_queue(managed.connection, managed.names.jobs) == 0

        for number in range(_RUNNING, _RUNNING + _WAITING):
            await managed.put(a_job(chatId=f"chat-{number}", jobId=f"job-{number}"))
        await told(managed, _RUNNING + _WAITING, _WAITING, _RUNNING)
        assert await in_queue(managed.connection, managed.names.jobs) == _WAITING
