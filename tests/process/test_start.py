"""How a worker starts, or says why it does not."""

import signal
from importlib.metadata import version

from tests.process.stage import Stage
from tests.support.consumer import declare_classic_queue


async def test_worker_that_waits_for_its_broker_can_be_stopped(stage: Stage) -> None:
    worker = await stage.workers.start(AMQP_URL="amqp://127.0.0.1:1")
    await worker.logged("broker.lost")

    worker.signal(signal.SIGTERM)

    assert await worker.exits() == 0
    assert not worker.log("worker.ready")


async def test_worker_that_is_ready_names_what_it_is_connected_to(stage: Stage) -> None:
    worker = await stage.ready_worker()

    [ready] = worker.log("worker.ready")
    assert ready["broker"] == f"127.0.0.1:{stage.broker.port}"
    assert ready["broker_version"].startswith("RabbitMQ ")
    assert (ready["vhost"], ready["prefix"]) == ("/", stage.names.prefix)
    assert (ready["server"], ready["version"]) == (
        stage.endpoint.url,
        version("aimicromind-worker"),
    )


async def test_queue_with_other_arguments_is_named(stage: Stage) -> None:
    declare_classic_queue(stage.broker.url, stage.names.jobs)
    worker = await stage.workers.start()

    assert await worker.exits(15) == 4
    assert f"queue {stage.names.jobs} is different" in worker.only_sentence()
