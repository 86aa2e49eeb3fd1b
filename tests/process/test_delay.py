"""Long waits are on the broker, where a job holds no slot and no worker's death matters."""

import signal
import time

from aimicromind_testing import answer, too_many_requests
from tests.process.jobs import a_job
from tests.process.stage import Stage

_ASKED_S = 6
_RUNG_S = 10


async def test_job_that_must_wait_holds_no_slot_and_outlives_its_worker(stage: Stage) -> None:
    stage.endpoint.flow("busy", too_many_requests(str(_ASKED_S)), answer(5))
    stage.endpoint.flow("free", answer(3))
    first = await stage.ready_worker(CONCURRENCY=1)
    waiting, other = a_job("busy"), a_job("free")
    with stage.listen() as consumer:
        stage.submit(waiting)
        await consumer.saw(waiting.job_id, "retry")
        since = time.monotonic()

        stage.submit(other)
        await stage.ended(consumer, other)
        other_s = time.monotonic() - since
        first.signal(signal.SIGKILL)
        await first.exits()
        await stage.ready_worker()
        (seen,) = await stage.ended(consumer, waiting, within_s=2 * _RUNG_S)
        await stage.stop_workers()

    assert other_s < _RUNG_S / 2
    assert seen.shown(1) == ["retry"]
    retry = seen.only("retry")
    assert (retry["kind"], retry["nextAttempt"], retry["delaySeconds"]) == (
        "rate_limited",
        2,
        _RUNG_S,
    )
    assert seen.shown(2) == ["start", "token", "metadata", "end"]
    assert (seen.end["status"], seen.end["attempts"], seen.end["calls"]) == ("completed", 2, 2)
    assert stage.jobs_left() == stage.dead_jobs() == 0


async def test_job_whose_time_would_end_on_the_ladder_fails_at_once(stage: Stage) -> None:
    stage.endpoint.flow("busy", too_many_requests(str(_ASKED_S)))
    await stage.ready_worker(JOB_LIFETIME_SECONDS=_RUNG_S)
    job = a_job("busy")
    with stage.listen() as consumer:
        stage.submit(job)
        (seen,) = await stage.ended(consumer, job, within_s=_RUNG_S / 2)
        await stage.stop_workers()

    assert seen.only("error")["kind"] == "rate_limited"
    assert seen.end["calls"] == 1
