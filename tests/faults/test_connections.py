"""The way between a worker and its broker breaks: at once, silently, for one connection or both."""

import asyncio
import time
from collections.abc import Callable

import psutil
import pytest

from aimicromind_testing import answer
from tests.faults.trial import EVENTS, JOBS, Trial
from tests.support.marked import marked
from tests.support.probes import turns

pytestmark = pytest.mark.timeout(150)

_HEARTBEAT_S = 4
_NOTICED_WITHIN_S = 45.0
_FREED_WITHIN_S = 30.0
# A worker and its broker see a reset at the same time; what was on its way then still comes.
_ON_ITS_WAY_S = 1.0


@pytest.mark.parametrize(
    "name", [pytest.param(JOBS, id="jobs"), pytest.param(EVENTS, id="events"), ""]
)
async def test_worker_goes_on_after_a_reset(name: str, trial: Trial) -> None:
    trial.endpoint.flow("flow", marked())
    worker = await trial.worker(by_proxy=True)
    running = [trial.job(tokens=60, rate=30) for _ in range(5)]
    later = trial.job()
    with trial.listening() as heard:
        trial.submit(*running)
        for job in running:
            await heard.saw(job.job_id, "token", 5)

        at = time.monotonic()
        trial.proxy.reset(name)
        trial.interrupted(at, at + _ON_ITS_WAY_S)
        trial.fenced(at, at + _ON_ITS_WAY_S)
        trial.outage("a reset", at, [worker])
        trial.submit(later)
        every = await trial.ended(*running, later, within_s=30)
        await trial.verdict()

    assert {seen.end["status"] for seen in every} == {"completed"}


async def test_dead_way_is_noticed_with_the_default_heartbeat(
    trial: Trial, record_testsuite_property: Callable[[str, object], None]
) -> None:
    trial.endpoint.flow("flow", marked())
    worker = await trial.worker(by_proxy=True)
    url = await worker.health_url()
    job = trial.job(tokens=200, rate=10)
    with trial.listening() as heard:
        trial.submit(job)
        await heard.saw(job.job_id, "token", 3)

        parted = time.monotonic()
        trial.proxy.part()
        await turns(f"{url}/readyz", 503, _NOTICED_WITHIN_S)
        await worker.logged("broker.lost", within_s=_NOTICED_WITHIN_S)
        noticed_s = time.monotonic() - parted
        trial.proxy.release()
        trial.interrupted(parted)
        trial.fenced(parted)
        trial.outage("a dead way", parted, [worker], red_within_s=_NOTICED_WITHIN_S)
        (seen,) = await trial.ended(job, within_s=40)
        await trial.verdict()

    record_testsuite_property("dead way noticed after, s", round(noticed_s, 1))
    assert (seen.end["status"], seen.end["attempts"]) == ("completed", 2)


async def test_partition_between_worker_and_broker_has_a_short_fencing_window(
    trial: Trial, record_testsuite_property: Callable[[str, object], None]
) -> None:
    trial.endpoint.flow("flow", marked())
    parted = await trial.worker(by_proxy=True, HEARTBEAT_SECONDS=_HEARTBEAT_S)
    jobs = [trial.job(tokens=300, rate=10) for _ in range(3)]
    with trial.listening() as heard:
        trial.submit(*jobs)
        for job in jobs:
            await heard.saw(job.job_id, "token", 3)
        await trial.worker(HEARTBEAT_SECONDS=_HEARTBEAT_S)

        since = time.monotonic()
        trial.proxy.part()
        await parted.logged("broker.lost", within_s=_NOTICED_WITHIN_S)
        noticed = time.monotonic()
        await heard.until(
            lambda: all(heard.count(job.job_id, "start") == 2 for job in jobs), _FREED_WITHIN_S
        )
        trial.proxy.release()
        trial.interrupted(since)
        trial.fenced(since, max(noticed, since))
        trial.outage("a partition", since, [parted], red_within_s=_NOTICED_WITHIN_S)
        every = await trial.ended(*jobs, within_s=50)
        await trial.verdict()

    taken_over = [seen.attempts[2][0].at for seen in every]
    window_s = max(0.0, noticed - min(taken_over))
    record_testsuite_property("fencing window with heartbeat 4 s, s", round(window_s, 2))
    assert window_s < 2 * _HEARTBEAT_S
    assert {seen.end["status"] for seen in every} == {"completed"}


async def test_missing_confirms_stop_the_reading_of_the_endpoint_and_fill_no_memory(
    trial: Trial,
) -> None:
    trial.endpoint.flow("fast", answer(40_000, token=lambda number: f"{number:0>2000} "))
    worker = await trial.worker(by_proxy=True, MAX_FRAME_BYTES=8192)
    process = psutil.Process(worker.pid)
    job = trial.job(flow="fast")
    trial.dead = 1
    with trial.listening() as heard:
        trial.submit(job)
        (call,) = await trial.endpoint.called(1)
        await heard.saw(job.job_id, "token", 10)

        trial.proxy.hold(EVENTS)
        sent = -1
        while sent != call.bytes_sent:
            sent = call.bytes_sent
            await asyncio.sleep(1)
        held_mb = process.memory_info().rss / 1e6
        await asyncio.sleep(2)
        more_mb = process.memory_info().rss / 1e6 - held_mb

        assert call.live
        assert call.bytes_sent == sent
        assert abs(more_mb) < 3
        trial.proxy.release(EVENTS)
        (seen,) = await trial.ended(job, within_s=60)
        await trial.verdict(calls=None)

    assert seen.only("error")["kind"] == "too_large"
    assert sent < 0.8 * 40_000 * 2000
