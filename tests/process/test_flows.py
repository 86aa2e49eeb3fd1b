"""One flow's trouble is its own: what others see of a sick flow, and of one without a key."""

import asyncio
import time
from datetime import timedelta
from typing import Final

import pytest

from aimicromind_testing import (
    Script,
    answer,
    error_answer,
    json_error,
    never_answers,
)
from tests.process.jobs import a_job
from tests.process.stage import Stage
from tests.support.probes import turns

pytestmark = pytest.mark.timeout(120)

_REFUSED: Final = error_answer("Error: predictionsServices.buildChatflow - Unauthorized")
_FIRST_BYTE_S: Final = 2
_SICK_JOBS, _WELL_JOBS = 40, 10
_A_WHILE: Final = timedelta(seconds=20)


@pytest.mark.parametrize(
    "script",
    [
        json_error(500, "Error: 503 Service Unavailable, fetch failed"),
        error_answer("Error: connect ECONNREFUSED 127.0.0.1:11434, fetch failed"),
        never_answers(),
    ],
    ids=["error", "frame", "silence"],
)
async def test_sick_flow_holds_up_no_other(stage: Stage, script: Script) -> None:
    stage.endpoint.flow("sick", script)
    stage.endpoint.flow("well", answer(5))
    worker = await stage.ready_worker(CONCURRENCY=8, FIRST_BYTE_TIMEOUT_SECONDS=_FIRST_BYTE_S)
    sick = [a_job("sick", maxCalls=1) for _ in range(_SICK_JOBS)]
    well = [a_job("well") for _ in range(_WELL_JOBS)]
    with stage.listen() as consumer:
        stage.submit(*sick)
        # Once its calls have failed, and not before, it is known to be sick.
        await stage.endpoint.until(
            lambda: sum(not call.live for call in stage.endpoint.calls) >= 8, within=_A_WHILE
        )
        began = time.monotonic()
        stage.submit(*well)
        every = await stage.ended(consumer, *well, within_s=30)
        took = time.monotonic() - began

    assert not worker.log("endpoint.down")
    assert {seen.end["status"] for seen in every} == {"completed"}
    assert [seen.end["calls"] for seen in every] == [1] * _WELL_JOBS
    # The slots that sick jobs have already are free once their headers are overdue.
    assert took < 2 * _FIRST_BYTE_S + 6


async def test_jobs_of_a_flow_without_a_key_wait_for_it(stage: Stage) -> None:
    stage.endpoint.flow("locked", *[_REFUSED] * 5, answer(3))
    stage.endpoint.flow("well", answer(3))
    # One slot: beside the fifth refusal there is no call that the endpoint accepts.
    worker = await stage.ready_worker(CONCURRENCY=1)
    locked = [a_job("locked") for _ in range(20)]
    well = a_job("well")
    with stage.listen() as consumer:
        stage.submit(*locked)
        await worker.logged("flow.key_refused")
        stage.submit(well)
        await stage.ended(consumer, well)
        refused = len(stage.endpoint.calls) - 1
        await worker.logged("flow.key_accepted", within_s=40)
        every = await stage.ended(consumer, *locked, within_s=60)
        await stage.stop_workers()

    statuses = [seen.end["status"] for seen in every]
    assert statuses.count("failed") == stage.dead_jobs() <= 5
    assert statuses.count("completed") == len(locked) - stage.dead_jobs()
    assert refused <= 7


async def test_worker_whose_key_is_refused_for_every_flow_takes_no_more_jobs(
    stage: Stage,
) -> None:
    flows = [f"flow-{number}" for number in range(3)]
    for flow in flows:
        stage.endpoint.flow(flow, _REFUSED)
    worker = await stage.ready_worker(CONCURRENCY=4)
    stage.submit(*(a_job(flow) for _ in range(30) for flow in flows))

    told = await turns(f"{await worker.health_url()}/readyz", 503, 40)

    assert "AIMICROMIND_API_KEY" in str(told)
    calls = len(stage.endpoint.calls)
    await asyncio.sleep(1)
    assert len(stage.endpoint.calls) <= calls + 1
    assert stage.dead_jobs() <= 5 * len(flows)
    assert stage.jobs_left() > 0
