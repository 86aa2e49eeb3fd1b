"""A worker is told to stop: what fits in the grace period is finished, the rest handed back."""

import signal
import time
from collections.abc import Callable

import pytest

from aimicromind_testing import answer
from tests.process.jobs import a_job
from tests.process.stage import Stage
from tests.support.probes import OK, probe

_AT_ONCE_S = 3.0
_ENDLESS = answer(100_000, rate=50)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_idle_worker_ends_at_once(number: signal.Signals, stage: Stage) -> None:
    worker = await stage.ready_worker()

    worker.signal(number)

    assert await worker.exits(_AT_ONCE_S) == 0
    assert worker.log("worker.stopped")
    assert not [line for line in worker.log() if line["level"] in {"warning", "error"}]


async def test_running_jobs_are_finished_and_no_more_are_taken(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(40, rate=40))
    leaving = await stage.ready_worker(CONCURRENCY=5)
    url = await leaving.health_url()
    running = [a_job() for _ in range(5)]
    queued, late = [a_job() for _ in range(3)], a_job()
    with stage.listen() as consumer:
        stage.submit(*running, *queued)
        for job in running:
            await consumer.saw(job.job_id, "token")

        leaving.signal(signal.SIGTERM)
        await leaving.logged("worker.draining")
        [draining] = leaving.log("worker.draining")
        assert (draining["running"], draining["waiting"]) == (5, 0)
        assert (await probe(f"{url}/livez"), (await probe(f"{url}/readyz"))[0]) == (OK, 503)
        stage.submit(late)
        every = await stage.ended(consumer, *running)
        assert await leaving.exits(_AT_ONCE_S) == 0

        for seen in every:
            assert (seen.end["status"], seen.end["attempts"]) == ("completed", 1)
            assert seen.end["events"] == 43
        left = [*queued, late]
        assert not [message for job in left for message in consumer.job(job.job_id)]
        assert stage.jobs_left() == len(left)
        assert len(stage.endpoint.calls) == len(running)

        await stage.ready_worker()
        every = await stage.ended(consumer, *left)
        await stage.stop_workers()

    assert {seen.end["status"] for seen in every} == {"completed"}
    assert {seen.end["calls"] for seen in every} == {1}
    assert stage.jobs_left() == 0


async def test_jobs_that_do_not_fit_go_to_another_worker(
    stage: Stage, record_testsuite_property: Callable[[str, object], None]
) -> None:
    jobs = [a_job(flow=f"flow-{number}") for number in range(3)]
    for job in jobs:
        stage.endpoint.flow(job.flow, _ENDLESS, answer(30, rate=100))
    grace_s = 3.0
    # The call that the leaving worker gives up is not held against the job.
    leaving = await stage.ready_worker(DRAIN_SECONDS=grace_s, MAX_CALLS=1)
    with stage.listen() as consumer:
        stage.submit(*jobs)
        for job in jobs:
            await consumer.saw(job.job_id, "token", 5)
        await stage.ready_worker(MAX_CALLS=1)

        asked = time.monotonic()
        leaving.signal(signal.SIGTERM)
        assert await leaving.exits(grace_s) == 0
        drained_s = time.monotonic() - asked
        every = await stage.ended(consumer, *jobs)
        await stage.stop_workers()

    record_testsuite_property("drain of a 3 s grace period, s", round(drained_s, 3))
    for seen in every:
        assert seen.shown(1) == ["start", "token", "retry"]
        retry = seen.attempts[1][-1].data
        assert list(retry) == ["kind", "message", "nextAttempt", "delaySeconds"]
        assert (retry["kind"], retry["nextAttempt"], retry["delaySeconds"]) == ("shutdown", 2, 0)
        assert seen.shown(2) == ["start", "token", "metadata", "end"]
        assert (seen.end["status"], seen.end["attempts"], seen.end["calls"]) == ("completed", 2, 2)
        assert seen.end["text"] == "".join(f"tok{number} " for number in range(30))
    assert len(stage.endpoint.calls) == 6
    assert len({call.chat_id for call in stage.endpoint.calls}) == 6
    assert not leaving.log("job.dead_lettered")
    assert stage.jobs_left() == stage.dead_jobs() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_second_signal_hands_the_jobs_back_at_once(
    number: signal.Signals, stage: Stage
) -> None:
    stage.endpoint.flow("flow", _ENDLESS, answer(3))
    leaving = await stage.ready_worker()
    job = a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        await consumer.saw(job.job_id, "token")
        leaving.signal(number)
        await leaving.logged("worker.draining")

        leaving.signal(number)

        assert await leaving.exits(_AT_ONCE_S) == 0
        await stage.ready_worker()
        (seen,) = await stage.ended(consumer, job)

    assert seen.shown(1) == ["start", "token", "retry"]
    assert (seen.end["status"], seen.end["attempts"]) == ("completed", 2)
