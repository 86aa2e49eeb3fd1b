"""How a worker starts, or says why it does not."""

import signal

from tests.process.stage import Stage
from tests.support.consumer import declare_classic_queue


async def test_worker_that_waits_for_its_broker_can_be_stopped(stage: Stage) -> None:
    worker = await stage.workers.start(AMQP_URL="amqp://127.0.0.1:1")
    await worker.logged("broker.lost")

    worker.signal(signal.SIGTERM)

    assert await worker.exits() == 0
    assert not worker.log("worker.ready")


async def test_queue_with_other_arguments_is_named(stage: Stage) -> None:
    declare_classic_queue(stage.broker.url, stage.names.jobs)
    worker = await stage.workers.start()

    assert await worker.exits(15) == 4
    assert f"queue {stage.names.jobs} is different" in worker.only_sentence()
