"""The broker takes a worker's consumer away, or never lets it consume."""

from pathlib import Path
from uuid import uuid4

import pytest

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker, answer
from tests.process.jobs import a_job
from tests.process.stage import Stage, set_up


async def test_job_longer_than_the_consumer_timeout_runs_again_and_the_worker_works_on(
    names: Names, tmp_path: Path
) -> None:
    async with PrivateBroker() as broker, set_up(broker, names, tmp_path) as stage:
        for setting in ("consumer_timeout, 3000", "channel_tick_interval, 1000"):
            await broker.rabbitmqctl("eval", f"application:set_env(rabbit, {setting}).")
        stage.endpoint.flow("flow", answer(1000, rate=50), answer(5))
        worker = await stage.ready_worker()
        job = a_job()
        with stage.listen() as consumer:
            stage.submit(job)
            lost = await worker.logged("broker.lost", within_s=30)
            (seen,) = await stage.ended(consumer, job)
            await stage.stop_workers()

    assert "PRECONDITION_FAILED" in lost["reason"]
    assert (seen.end["status"], seen.end["attempts"]) == ("completed", 2)


@pytest.mark.parametrize("missing", ["read", "write"])
async def test_missing_permission_is_one_sentence(
    broker: PrivateBroker, stage: Stage, missing: str
) -> None:
    await stage.ready_worker()
    await stage.stop_workers()
    user = f"user-{uuid4().hex[:8]}"
    write, read = ("", ".*") if missing == "write" else (".*", "")
    await broker.rabbitmqctl("add_user", user, "secret")
    try:
        await broker.rabbitmqctl("set_permissions", user, ".*", write, read)

        worker = await stage.workers.start(
            AMQP_URL=f"amqp://{user}:secret@127.0.0.1:{broker.port}/"
        )

        assert await worker.exits(within_s=30) == 4
    finally:
        await broker.rabbitmqctl("delete_user", user)
    said = worker.only_sentence()
    assert f"may not declare {stage.names.prefix}." in said
    assert "ACCESS_REFUSED" in said
    assert not worker.log("worker.ready")
    assert not worker.log("broker.lost")
