"""A job that kills its worker: the pool survives it, and so do the jobs beside it."""

import asyncio
import itertools
import signal
from contextlib import suppress
from datetime import timedelta

import pytest

from aimicromind_testing import Head, Script, Stall, answer, send
from tests.process.jobs import Job, a_job
from tests.process.stage import Stage

_NEIGHBOURS = 12
_WITHIN_S = 80.0

SILENT = Script.of(Stall())
HALF = Script.of(Head(), send("token", "half "), Stall())


async def _kill_who_calls(stage: Stage, killer: Job, **settings: object) -> None:
    """Kill each worker that runs this job, once it calls, and start another in its place."""
    for killed in itertools.count():
        await stage.endpoint.until(
            lambda: sum(call.flow == killer.flow for call in stage.endpoint.calls) > killed,  # noqa: B023 - awaited here
            timedelta(seconds=_WITHIN_S),
        )
        victim = await stage.workers.holder(killer.job_id)
        victim.signal(signal.SIGKILL)
        await victim.exits()
        await stage.workers.start(**settings)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("script", "max_calls"),
    [
        pytest.param(SILENT, 3, id="before a token"),
        pytest.param(HALF, 3, id="after a token"),
        pytest.param(HALF, 1, id="after a token, one call"),
    ],
)
async def test_job_that_kills_its_worker_takes_no_neighbour_with_it(
    stage: Stage, script: Script, max_calls: int
) -> None:
    stage.endpoint.flow("killer", *(script for _ in range(9)))
    stage.endpoint.flow("flow", *(answer(40, rate=20) for _ in range(9 * _NEIGHBOURS)))
    settings = {"DRAIN_SECONDS": 2, "MAX_CALLS": max_calls}
    await stage.ready_workers(2, **settings)
    killer = a_job("killer")
    neighbours = [a_job() for _ in range(_NEIGHBOURS)]
    with stage.listen() as consumer:
        stage.submit(*neighbours[:6], killer, *neighbours[6:])
        killing = asyncio.create_task(_kill_who_calls(stage, killer, **settings))
        every = await stage.ended(consumer, killer, *neighbours, within_s=_WITHIN_S)
        killing.cancel()
        with suppress(asyncio.CancelledError):
            await killing
        for worker in stage.workers.running:
            await worker.ready()
        await stage.stop_workers()

    seen, *others = every
    assert seen.only("error")["kind"] == "delivery_limit"
    assert {other.end["status"] for other in others} == {"completed"}
    assert (stage.jobs_left(), stage.dead_jobs()) == (0, 1)
