"""A worker that is lost between the parking of a job and its acknowledgement: one dead letter."""

import json
import signal
from typing import Any

import pytest

from aimicromind_testing import END, Head, Script, Wait, answer, send
from tests.integration.ops.test_cli import run, settings_for
from tests.process.jobs import Job, a_job
from tests.process.stage import Stage
from tests.support.proxy import Proxy
from tests.support.waiting import until

_JOBS = "aimicromind-worker jobs"
_FAILS = Script.of(Head(), send("token", "half "), Wait(2), send("error", "Unauthorized"), END)


async def _dead(stage: Stage, *arguments: str) -> list[dict[str, Any]]:
    settings = settings_for(stage.broker, stage.names)
    ran = await run("dead", *arguments, "--json", **settings)
    assert ran.exit_code == 0, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


async def _parked(stage: Stage, count: int) -> None:
    await until(lambda: stage.dead_jobs() == count, 15)


async def _park_twice(stage: Stage, job: Job) -> None:
    """Have a worker park a job and lose its acknowledgement, and another one park it again."""
    async with Proxy(stage.broker.port) as proxy:
        dying = await stage.ready_worker(AMQP_URL=proxy.url)
        with stage.listen() as consumer:
            stage.submit(job)
            await consumer.saw(job.job_id, "token")
            proxy.silence(_JOBS)  # Its acknowledgement does not get through any more.
            await _parked(stage, 1)
            dying.signal(signal.SIGKILL)
            await dying.exits()
    await stage.ready_worker()
    await _parked(stage, 2)


@pytest.mark.timeout(120)
async def test_job_that_was_parked_twice_is_one_dead_letter_and_is_replayed_once(
    stage: Stage,
) -> None:
    stage.endpoint.flow("flow", _FAILS, answer(1))
    job = a_job()
    await _park_twice(stage, job)

    listed = await _dead(stage, "list")
    dry = await _dead(stage, "replay", "--all", "--dry-run")
    with stage.listen() as consumer:
        (done,) = await _dead(stage, "replay", "--all")
        nothing_left = await _dead(stage, "replay", "--all")
        await consumer.ended(done["replayedAs"])
        await stage.stop_workers()
        ends = [it for it in consumer.job(done["replayedAs"]) if it.name == "end"]

    assert [it["jobId"] for it in listed] == [it["jobId"] for it in dry] == [job.job_id]
    assert done["jobId"] == job.job_id
    assert nothing_left == []
    assert [end.data["status"] for end in ends] == ["completed"]
    assert len(stage.endpoint.calls) == 2
    assert (stage.jobs_left(), stage.dead_jobs()) == (0, 0)
