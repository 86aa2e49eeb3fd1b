"""How a worker starts, or says why it does not."""

import signal
from pathlib import Path

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from tests.process.stage import Stage
from tests.support.consumer import declare_classic_queue
from tests.support.processes import Workers

_BACK_AT_WORK_WITHIN_S = 10.0


async def test_worker_waits_for_its_broker(names: Names, tmp_path: Path) -> None:
    async with PrivateBroker() as late:
        await late.kill()
        settings = {"AMQP_URL": late.url, "PREFIX": names.prefix, "BASE_URL": "http://127.0.0.1"}
        async with Workers(tmp_path, settings) as workers:
            worker = await workers.start()
            lost = await worker.logged("broker.lost")

            await late.start()
            await worker.logged("worker.ready", within_s=_BACK_AT_WORK_WITHIN_S)
            worker.signal(signal.SIGTERM)
            assert await worker.exits() == 0
        await late.kill()

    assert f"127.0.0.1:{late.port}" in lost["reason"]
    assert "AIMICROMIND_AMQP_URL" in lost["reason"]


async def test_worker_that_waits_for_its_broker_can_be_stopped(stage: Stage) -> None:
    worker = await stage.workers.start(AMQP_URL="amqp://127.0.0.1:1")
    await worker.logged("broker.lost")

    worker.signal(signal.SIGTERM)

    assert await worker.exits() == 0
    assert not worker.log("worker.ready")


async def test_wrong_password_is_one_sentence(stage: Stage) -> None:
    port = stage.broker.port
    worker = await stage.workers.start(AMQP_URL=f"amqp://guest:wr0ng@127.0.0.1:{port}/")

    assert await worker.exits(15) == 4
    sentence = worker.only_sentence()
    assert f"127.0.0.1:{port} refuses" in sentence
    assert "AIMICROMIND_AMQP_URL" in sentence
    assert "wr0ng" not in worker.stderr


async def test_queue_with_other_arguments_is_named(stage: Stage) -> None:
    declare_classic_queue(stage.broker.url, stage.names.jobs)
    worker = await stage.workers.start()

    assert await worker.exits(15) == 4
    assert f"queue {stage.names.jobs} is different" in worker.only_sentence()


async def test_missing_settings_are_named(stage: Stage) -> None:
    worker = await stage.workers.start(AMQP_URL=None, BASE_URL=None)

    assert await worker.exits(15) == 2
    assert (
        worker.only_sentence() == "AIMICROMIND_AMQP_URL is not set; AIMICROMIND_BASE_URL is not set"
    )


async def test_setting_that_makes_no_sense_is_named_without_its_value(stage: Stage) -> None:
    worker = await stage.workers.start(AMQP_URL="htp://me:s3cret@host", CONCURRENCY="many")

    assert await worker.exits(15) == 2
    assert "AIMICROMIND_AMQP_URL: " in worker.only_sentence()
    assert "AIMICROMIND_CONCURRENCY: " in worker.only_sentence()
    assert "s3cret" not in worker.stderr


async def test_names_that_no_setting_has_are_warned_about(stage: Stage) -> None:
    worker = await stage.ready_worker(CONCURENCY=7, API_KEY="k")

    warned = worker.log("setting.unknown")
    assert [(line["name"], line["level"]) for line in warned] == [
        ("AIMICROMIND_CONCURENCY", "warning")
    ]
