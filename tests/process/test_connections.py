"""A worker's connections to the broker fail, one by one and together, while it carries jobs."""

import asyncio
import signal
import time
from collections.abc import Callable

from aimicromind_testing import PrivateBroker, answer
from tests.process.jobs import Job, a_job
from tests.process.stage import Stage
from tests.support.checker import Seen
from tests.support.consumer import Consumer
from tests.support.proxy import Proxy

JOBS, EVENTS = "worker jobs", "worker events"
Record = Callable[[str, object], None]

_AT_ONCE_S = 3.0
_BEAT_S = 2
_DEFAULT_BEAT_S = 12


async def streaming(stage: Stage, consumer: Consumer, tokens: int = 600) -> Job:
    """Have a job under way that shows 50 tokens each second."""
    stage.endpoint.flow("flow", answer(tokens, rate=50), answer(20, rate=50))
    job = a_job()
    stage.submit(job)
    await consumer.saw(job.job_id, "token", 10)
    return job


def check_that_older_attempts_fell_silent(seen: Seen) -> float:
    """Check that attempts did not overlap, and give the pause between the first two."""
    first, second = seen.attempts[1], seen.attempts[2]
    assert seen.end["attempts"] == 2
    assert second[0].name == "start"
    pause_s = second[0].at - first[-1].at
    assert pause_s > 0
    return pause_s


async def test_attempt_goes_on_when_the_connection_of_events_is_reset(
    stage: Stage, proxy: Proxy, record_testsuite_property: Record
) -> None:
    worker = await stage.ready_worker(AMQP_URL=proxy.url)
    with stage.listen() as consumer:
        job = await streaming(stage, consumer, tokens=200)
        before = consumer.count(job.job_id, "token")

        proxy.reset(EVENTS)
        reset = time.monotonic()
        messages = await consumer.saw(job.job_id, "token", before + 10)
        (seen,) = await stage.ended(consumer, job)
        await stage.stop_workers()

    recovered_s = next(it.at for it in messages if it.at > reset) - reset
    record_testsuite_property(
        "events again after RST of their connection, s", round(recovered_s, 3)
    )
    assert recovered_s < _AT_ONCE_S
    assert (seen.end["status"], seen.end["attempts"]) == ("completed", 1)
    assert len(stage.endpoint.calls) == 1
    assert len(worker.log("publishing.restored")) == 1
    assert len(worker.log("worker.ready")) == 1


async def test_attempt_falls_silent_before_the_broker_frees_the_job_of_a_silent_connection(
    stage: Stage, proxy: Proxy, record_testsuite_property: Record
) -> None:
    cut_off = await stage.ready_worker(AMQP_URL=proxy.url, HEARTBEAT_SECONDS=_BEAT_S)
    with stage.listen() as consumer:
        job = await streaming(stage, consumer)
        await stage.ready_worker(HEARTBEAT_SECONDS=_BEAT_S)

        proxy.silence(JOBS)
        silenced = time.monotonic()
        (seen,) = await stage.ended(consumer, job)
        await cut_off.logged("broker.lost")
        await stage.stop_workers()

    pause_s = check_that_older_attempts_fell_silent(seen)
    silent_after_s = seen.attempts[1][-1].at - silenced
    assert silent_after_s < _BEAT_S + 0.5
    record_testsuite_property(
        f"silence between attempts with a beat of {_BEAT_S} s, s", round(pause_s, 3)
    )


async def test_silent_connections_are_noticed_with_the_default_heartbeat(
    broker: PrivateBroker, stage: Stage, proxy: Proxy, record_testsuite_property: Record
) -> None:
    async with Proxy(broker.port) as other:
        without_jobs = await stage.ready_worker(AMQP_URL=proxy.url, CONCURRENCY=1)
        without_events = await stage.ready_worker(AMQP_URL=other.url, CONCURRENCY=1)
        stage.endpoint.flow("flow", answer(2000, rate=50))
        jobs = [a_job(), a_job()]
        with stage.listen() as consumer:
            stage.submit(*jobs)
            for job in jobs:
                await consumer.saw(job.job_id, "token", 10)
            silent = without_jobs.log("job.started")[0]["job_id"]

            proxy.silence(JOBS)
            other.silence(EVENTS)
            silenced = time.monotonic()
            await without_jobs.logged("broker.lost", within_s=20)
            noticed_jobs_s = time.monotonic() - silenced
            last_word_s = consumer.job(silent)[-1].at - silenced
            await without_events.logged("publishing.restored", within_s=20)
            noticed_events_s = time.monotonic() - silenced
            heard = [line["job_id"] for line in without_events.log("job.started")]
            before = consumer.count(heard[0], "token")
            await consumer.saw(heard[0], "token", before + 50)

    for figure, value in (
        ("fencing window with the default heartbeat, s", last_word_s),
        ("black hole on the connection of jobs noticed, s", noticed_jobs_s),
        ("black hole on the connection of events noticed, s", noticed_events_s),
    ):
        record_testsuite_property(figure, round(value, 3))
    assert last_word_s <= _DEFAULT_BEAT_S
    assert noticed_jobs_s <= _DEFAULT_BEAT_S + 1
    assert noticed_events_s <= 1.5 * _DEFAULT_BEAT_S + 1
    assert {it.attempt for it in consumer.job(heard[0])} == {1}


async def test_attempt_goes_on_when_its_worker_stood_still_for_a_moment(stage: Stage) -> None:
    worker = await stage.ready_worker(HEARTBEAT_SECONDS=4)
    with stage.listen() as consumer:
        job = await streaming(stage, consumer, tokens=300)

        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(5)
        worker.signal(signal.SIGCONT)
        (seen,) = await stage.ended(consumer, job)
        await stage.stop_workers()

    assert (seen.end["status"], seen.end["attempts"]) == ("completed", 1)
    assert not worker.log("broker.lost")
