"""A worker's connections to the broker fail, one by one and together, while it carries jobs."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from aimicromind_testing import PrivateBroker, answer, send
from tests.process.jobs import Job, a_job
from tests.process.stage import Stage
from tests.support.checker import Seen
from tests.support.consumer import Consumer
from tests.support.probes import OK, probe, turns
from tests.support.proxy import Proxy

JOBS, EVENTS = "worker jobs", "worker events"
Record = Callable[[str, object], None]

_AT_ONCE_S = 3.0
_BACK_AT_WORK_WITHIN_S = 10.0
_BEAT_S = 2
_DEFAULT_BEAT_S = 12


@pytest_asyncio.fixture
async def proxy(broker: PrivateBroker) -> AsyncIterator[Proxy]:
    async with Proxy(broker.port) as between:
        yield between


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


@pytest.mark.parametrize("which", [JOBS, "worker"])
async def test_job_runs_again_when_the_connection_it_came_by_is_reset(
    stage: Stage, proxy: Proxy, which: str, record_testsuite_property: Record
) -> None:
    await stage.ready_worker(AMQP_URL=proxy.url)
    with stage.listen() as consumer:
        job = await streaming(stage, consumer)

        proxy.reset(which)
        reset = time.monotonic()
        (seen,) = await stage.ended(consumer, job)
        await stage.stop_workers()

    check_that_older_attempts_fell_silent(seen)
    recovered_s = seen.attempts[2][0].at - reset
    record_testsuite_property(f"next attempt after RST of {which!r}, s", round(recovered_s, 3))
    assert recovered_s < _AT_ONCE_S
    assert seen.end["status"] == "completed"
    assert stage.jobs_left() == 0


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


async def test_worker_that_stood_still_says_nothing_more_of_a_job_that_another_has(
    stage: Stage, record_testsuite_property: Record
) -> None:
    stopped = await stage.ready_worker(HEARTBEAT_SECONDS=_BEAT_S)
    with stage.listen() as consumer:
        job = await streaming(stage, consumer)
        other = await stage.ready_worker(HEARTBEAT_SECONDS=_BEAT_S)

        stopped.signal(signal.SIGSTOP)
        began = time.monotonic()
        await other.logged("job.started", job_id=job.job_id, within_s=20)
        freed_s = time.monotonic() - began
        await consumer.until(lambda: any(it.attempt == 2 for it in consumer.job(job.job_id)))
        stopped.signal(signal.SIGCONT)
        await stopped.logged("broker.lost")
        (seen,) = await stage.ended(consumer, job)
        await stage.stop_workers()

    check_that_older_attempts_fell_silent(seen)
    late_s = max(0.0, seen.attempts[1][-1].at - began)
    record_testsuite_property("job of a stopped worker freed, s", round(freed_s, 3))
    record_testsuite_property("last event after SIGSTOP, s", round(late_s, 3))
    assert late_s < 1


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


@pytest.mark.parametrize(
    ("raise_it", "clear_it"),
    [
        pytest.param(
            ("set_vm_memory_high_watermark", "0.0001"),
            ("set_vm_memory_high_watermark", "0.6"),
            id="memory",
        ),
        pytest.param(("set_disk_free_limit", "9000GB"), ("set_disk_free_limit", "50MB"), id="disk"),
    ],
)
async def test_attempts_wait_out_an_alarm(
    broker: PrivateBroker,
    stage: Stage,
    raise_it: tuple[str, str],
    clear_it: tuple[str, str],
    record_testsuite_property: Record,
) -> None:
    worker = await stage.ready_worker(HEARTBEAT_SECONDS=_BEAT_S)
    url = await worker.health_url()
    with stage.listen() as consumer:
        job = await streaming(stage, consumer, tokens=1000)
        later = a_job("later")
        stage.endpoint.flow("later", answer(3))
        try:
            await broker.rabbitmqctl(*raise_it)
            body = await turns(f"{url}/readyz", 503, 5)
            said = len(consumer.job(job.job_id))
            await asyncio.sleep(5 * _BEAT_S)

            assert body["reasons"] == ["the broker takes no events: it has a memory or disk alarm"]
            assert len(consumer.job(job.job_id)) <= said + 100
            assert (await probe(f"{url}/livez")) == OK
        finally:
            heard, cleared = len(consumer.job(job.job_id)), time.monotonic()
            await broker.rabbitmqctl(*clear_it)
        await consumer.until(lambda: len(consumer.job(job.job_id)) > heard)
        recovered_s = time.monotonic() - cleared
        await turns(f"{url}/readyz", 200, _BACK_AT_WORK_WITHIN_S)
        stage.submit(later)
        await stage.ended(consumer, later)
        (seen,) = await stage.ended(consumer, job, within_s=60)
        await stage.stop_workers()

    record_testsuite_property(f"events again after {raise_it[0]} alarm, s", round(recovered_s, 3))
    assert recovered_s < _BACK_AT_WORK_WITHIN_S
    assert (seen.end["status"], seen.end["attempts"]) == ("completed", 1)
    assert len(worker.log("publishing.restored")) <= 1
    assert not worker.log("broker.lost")


async def test_alarm_longer_than_an_attempt_takes_no_time_from_it(
    broker: PrivateBroker, stage: Stage
) -> None:
    attempt_s, window = 4, 2048
    used = [{"tool": "mail", "toolInput": {}, "toolOutput": "sent"}]
    script = answer(3 * window, rate=2 * window, after=[send("usedTools", used)])
    stage.endpoint.flow("flow", script)
    worker = await stage.ready_worker(
        HEARTBEAT_SECONDS=_BEAT_S, ATTEMPT_TIMEOUT_SECONDS=attempt_s, RECOVERY_SECONDS=0
    )
    url = await worker.health_url()
    job = a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        await consumer.saw(job.job_id, "token")
        try:
            await broker.rabbitmqctl("set_vm_memory_high_watermark", "0.0001")
            await turns(f"{url}/readyz", 503, 5)
            await asyncio.sleep(2 * attempt_s)
            assert not stage.endpoint.calls[0].ended or stage.endpoint.calls[0].run_ended
        finally:
            await broker.rabbitmqctl("set_vm_memory_high_watermark", "0.6")
        (seen,) = await stage.ended(consumer, job, within_s=60)
        await stage.stop_workers()

    assert (seen.end["status"], seen.end["attempts"], seen.end["calls"]) == ("completed", 1, 1)
    assert seen.only("usedTools") == used
