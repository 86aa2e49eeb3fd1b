"""Probes of a worker that cannot go on; what probes of a sound one give is in process/."""

import pytest

from aimicromind_schemas.client import BrokerRefused
from aimicromind_worker.app.worker import Worker
from aimicromind_worker.telemetry.health import answering_probes
from tests.integration.stage import Stage
from tests.support.probes import OK, probe


async def test_worker_whose_supervision_died_is_not_live(stage: Stage) -> None:
    stranger = stage.broker.url.replace("guest:guest", "guest:h1dden")
    worker = Worker(stage.settings(amqp_url=stranger))
    told = worker.condition
    async with answering_probes("127.0.0.1", 0, told.why_not_live, told.why_not_ready) as port:
        url = f"http://127.0.0.1:{port}/livez"
        assert await probe(url) == OK

        with pytest.raises(BrokerRefused):
            await worker.run()

        status, body = await probe(url)
    assert status == 503
    assert body == {"status": "failing", "reasons": ["no more sessions are opened (BrokerRefused)"]}
