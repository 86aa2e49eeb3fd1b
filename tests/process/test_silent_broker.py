"""A worker is told to stop while the broker says nothing."""

import signal
import time
from pathlib import Path

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker, ScriptedEndpoint, answer
from tests.process.jobs import a_job
from tests.support.consumer import publish
from tests.support.processes import Workers

_GRACE_S = 4.0


async def test_worker_leaves_within_its_grace_though_the_broker_is_silent(
    names: Names, tmp_path: Path
) -> None:
    async with PrivateBroker() as broker, ScriptedEndpoint() as endpoint:
        job = a_job()
        endpoint.flow(job.flow, answer(10_000, rate=50))
        settings = {"AMQP_URL": broker.url, "PREFIX": names.prefix, "BASE_URL": endpoint.url}
        async with Workers(tmp_path, settings) as workers:
            worker = await (await workers.start(DRAIN_SECONDS=_GRACE_S)).ready()
            publish(broker.url, "", names.jobs, job.message)
            await endpoint.called(1)
            broker.suspend()

            asked = time.monotonic()
            worker.signal(signal.SIGTERM)
            assert await worker.exits(_GRACE_S + 1) == 0

            assert time.monotonic() - asked < _GRACE_S + 0.5
            broker.resume()
