"""Many large jobs at a time: memory stays within a budget, and each completes."""

import asyncio
import json
import signal
import sys

import pika
import pytest

from aimicromind_testing import answer
from tests.process.jobs import Job, a_job
from tests.process.stage import Stage
from tests.support.raw import Raw, publish

_MIB = 1024 * 1024
_BUDGET = 32 * _MIB
_JOBS = 32
_SLOTS = 32
# A worker with nothing to do, and five times the budget.
_MOST_MB = 300

pytestmark = pytest.mark.timeout(240)


def large(size: int) -> Job:
    """Write a job of that size; the endpoint says its question again, and not its history."""
    return a_job(history=[{"role": "userMessage", "content": "x" * (size - 300)}])


async def put(stage: Stage, *jobs: Job) -> None:
    """Put them on the queue one by one: pika holds no more than one of them."""
    await asyncio.to_thread(
        publish,
        stage.broker.port,
        (
            Raw(
                json.dumps(it.fields).encode(),
                pika.BasicProperties(delivery_mode=2),
                stage.names.jobs,
            )
            for it in jobs
        ),
    )


@pytest.mark.parametrize("workers", [1, 2])
async def test_many_large_jobs_complete_within_the_budget(
    stage: Stage, workers: int, capsys: pytest.CaptureFixture[str]
) -> None:
    stage.endpoint.flow("flow", *(answer(3, rate=10) for _ in range(_JOBS)))
    jobs = [large(8 * _MIB) for _ in range(_JOBS)]
    # The queue is there, and all jobs before the workers are, so that they get them at once.
    (first,) = await stage.ready_workers(1)
    first.signal(signal.SIGTERM)
    await first.exits()
    await put(stage, *jobs)
    with stage.listen() as consumer:
        running = await stage.ready_workers(workers, MAX_HELD_BYTES=_BUDGET, CONCURRENCY=_SLOTS)
        ended = await stage.ended(consumer, *jobs, within_s=180)
        largest = [worker.largest_mb for worker in running]
        requeued = sum(worker.counts["job.no_room"] for worker in running)
        await stage.stop_workers()

    with capsys.disabled():
        sys.stdout.write(f"\n{workers} workers: {requeued} requeued, largest {largest} MB\n")
    assert {it.end["status"] for it in ended} == {"completed"}
    assert max(largest) < _MOST_MB
    assert requeued <= _SLOTS * workers
    # Its own worker knows that a job which found no room had not been begun.
    assert workers > 1 or {it.end["attempts"] for it in ended} == {1}
    assert stage.dead_jobs() == 0
    assert not any(worker.log("broker.lost") for worker in running)
