"""A worker dies or stands still at the worst moment; the one beside it carries on."""

import asyncio
import signal
import time

import pytest

from aimicromind_testing import Head, Script, Stall, never_answers, send
from tests.faults.trial import JOBS, Trial
from tests.support.marked import marked

pytestmark = pytest.mark.timeout(150)

# The broker closes a connection that was silent for two to three heartbeats.
_HEARTBEAT_S = 4
_FREED_WITHIN_S = 20.0
_LATE_S = 2.0


@pytest.mark.parametrize(
    "silent",
    [
        pytest.param(never_answers(), id="before headers"),
        pytest.param(Script.of(Head(), send("start", ""), Stall()), id="before the first token"),
    ],
)
async def test_killed_worker_without_output_costs_one_call(silent: Script, trial: Trial) -> None:
    trial.endpoint.flow("flow", silent, marked())
    dying = await trial.worker()
    job = trial.job()
    with trial.listening():
        trial.submit(job)
        await trial.endpoint.called(1)

        trial.kill(dying)
        await trial.worker()
        (seen,) = await trial.ended(job)
        await trial.verdict()

    assert (seen.end["status"], seen.end["attempts"]) == ("completed", 2)


async def test_jobs_of_a_worker_killed_in_mid_stream_are_whole_the_second_time(
    trial: Trial,
) -> None:
    trial.endpoint.flow("flow", marked())
    dying, _ = await trial.worker(), await trial.worker()
    jobs = [trial.job(tokens=40, rate=40) for _ in range(12)]
    with trial.listening() as heard:
        trial.submit(*jobs)
        for job in jobs:
            await heard.saw(job.job_id, "token", 5)

        trial.kill(dying)
        every = await trial.ended(*jobs)
        await trial.verdict()

    assert {seen.end["status"] for seen in every} == {"completed"}
    assert {seen.end["attempts"] for seen in every} == {1, 2}


async def test_worker_killed_between_the_confirm_of_an_end_and_its_ack_leaves_one_end(
    trial: Trial,
) -> None:
    trial.endpoint.flow("flow", marked())
    dying = await trial.worker(by_proxy=True)
    job = trial.job(tokens=20, rate=20)
    with trial.listening() as heard:
        trial.submit(job)
        await heard.saw(job.job_id, "token")
        trial.proxy.silence(JOBS)  # Its acknowledgement does not get through any more.
        await heard.ended(job.job_id)
        await dying.logged("job.ended", job_id=job.job_id)

        trial.kill(dying)
        await dying.exits()
        trial.proxy.reset()
        next_one = await trial.worker()
        await next_one.logged("job.ended_before", job_id=job.job_id)
        await trial.verdict()

    assert len(trial.endpoint.calls) == 1
    ends = [message.body for message in heard.job(job.job_id) if message.name == "end"]
    assert ends == ends[:1] * 2


async def test_late_output_of_a_worker_that_stood_still_is_fenced(trial: Trial) -> None:
    trial.endpoint.flow("flow", marked())
    zombie = await trial.worker(HEARTBEAT_SECONDS=_HEARTBEAT_S)
    jobs = [trial.job(tokens=200, rate=10) for _ in range(3)]
    with trial.listening() as heard:
        trial.submit(*jobs)
        for job in jobs:
            await heard.saw(job.job_id, "token", 3)
        stopped = time.monotonic()
        zombie.signal(signal.SIGSTOP)
        await trial.worker()
        await heard.until(
            lambda: all(heard.count(job.job_id, "start") == 2 for job in jobs), _FREED_WITHIN_S
        )
        before = {job.job_id: len(heard.job(job.job_id)) for job in jobs}

        zombie.signal(signal.SIGCONT)
        continued = time.monotonic()
        await zombie.logged("broker.lost")
        trial.interrupted(stopped, continued)
        trial.outage("standing still", stopped, [zombie], answers=False)
        await asyncio.sleep(_LATE_S)
        late = [
            message
            for job in jobs
            for message in heard.job(job.job_id)[before[job.job_id] :]
            if message.attempt == 1
        ]
        assert late == []
        # At the endpoint its calls lived on beside those of the next worker.
        trial.fenced(stopped, continued + 1)
        await trial.ended(*jobs, within_s=40)
        await trial.verdict()
