"""Jobs of which more than one copy comes: each runs once, and no copy is left."""

import asyncio
import signal
from datetime import timedelta

from aimicromind_testing import Script, Stall, answer
from tests.process.jobs import Job, a_job
from tests.process.stage import Stage
from tests.support.consumer import read_stream


def _copy_with_state(job: Job, attempt: int) -> Job:
    """Write a job as a worker puts it on the queue again, with what the next one must know."""
    headers = {
        "x-aimicromind-attempt": attempt,
        "x-aimicromind-calls": attempt,
        "x-aimicromind-deadline": "2099-01-01T00:00:00+00:00",
    }
    return Job(job.fields, {**job.properties, "headers": headers})


async def _copy_was_seen(stage: Stage) -> None:
    """Wait until one of the workers has found that a job has ended before."""
    seen = [
        asyncio.ensure_future(worker.logged("job.ended_before")) for worker in stage.workers.running
    ]
    _, waiting = await asyncio.wait(seen, timeout=15, return_when=asyncio.FIRST_COMPLETED)
    assert len(waiting) < len(seen), "no worker has seen the copy"
    for each in waiting:
        each.cancel()


async def test_job_that_comes_twice_at_once_runs_once(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(30, rate=60), answer(30, rate=60))
    worker = await stage.ready_worker()
    job = a_job()
    with stage.listen() as consumer:
        stage.submit(job, job)
        (seen,) = await stage.ended(consumer, job)
        await worker.logged("job.ended_before")
        stage.submit(job)
        await worker.logged("job.ended_before", count=2)
        await stage.stop_workers()
        (seen,) = await stage.ended(consumer, job)

    assert (seen.end["status"], seen.end["calls"]) == ("completed", 1)
    assert len(stage.endpoint.calls) == 1
    assert stage.jobs_left() == stage.dead_jobs() == 0


async def test_two_copies_on_two_workers_resolve_to_one_run(stage: Stage) -> None:
    """As after a crash between the publishing of a delayed job and its acknowledgement."""
    stage.endpoint.flow("flow", answer(30, rate=60), answer(30, rate=60))
    await stage.ready_workers(2, CONCURRENCY=1)
    job = a_job()
    copy = _copy_with_state(job, attempt=1)
    with stage.listen() as consumer:
        stage.submit(copy, copy)
        (seen,) = await stage.ended(consumer, job)
        await _copy_was_seen(stage)
        await stage.stop_workers()
        (seen,) = await stage.ended(consumer, job)

    assert list(seen.attempts) == [2]
    assert (seen.end["status"], seen.end["calls"]) == ("completed", 2)
    assert len(stage.endpoint.calls) == 1
    assert stage.jobs_left() == stage.dead_jobs() == 0


async def test_copy_of_a_job_whose_worker_was_killed_in_silence_makes_a_call_of_its_own(
    stage: Stage,
) -> None:
    """The endpoint mixes calls with equal chatIds, and may still answer the first one."""
    stage.endpoint.flow("flow", Script.of(Stall()), answer(3), answer(3))
    await stage.ready_workers(2)
    job = a_job()
    with stage.listen() as consumer:
        stage.submit(job, job)
        await stage.endpoint.until(lambda: len(stage.endpoint.calls) == 1, timedelta(seconds=20))
        running = await stage.workers.holder(job.job_id)
        await _recorded(stage, job)
        running.signal(signal.SIGKILL)
        (seen,) = await stage.ended(consumer, job)
        await stage.stop_workers()

    chat_ids = [call.chat_id for call in stage.endpoint.calls]
    assert len(set(chat_ids)) == len(chat_ids) == 2
    assert (list(seen.attempts), seen.end["status"]) == ([2], "completed")
    assert stage.jobs_left() == stage.dead_jobs() == 0


async def _recorded(stage: Stage, job: Job) -> None:
    """Wait until the journal says that an attempt of a job has begun."""
    async with asyncio.timeout(20):
        while True:
            records = await asyncio.to_thread(read_stream, stage.broker.url, stage.names.journal)
            if any(record.event.get("jobId") == job.job_id for record in records):
                return
            await asyncio.sleep(0.1)
