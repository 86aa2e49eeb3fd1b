"""The broker goes away and comes back, stands still, or stops taking messages."""

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from aimicromind_testing import PrivateBroker
from tests.faults.trial import Trial
from tests.support.marked import marked

pytestmark = pytest.mark.timeout(180)

# A stream that was declared just before RabbitMQ 3.10 is killed stays down after its return.
_DECLARED_FOR_GOOD_AFTER_S = 5.0
_RED_WITHIN_S = 5.0
_HEARTBEAT_S = 4
_LONGER_THAN_HEARTBEATS_S = 4 * _HEARTBEAT_S


async def _restarted(broker: PrivateBroker) -> None:
    await broker.restart()


async def _killed(broker: PrivateBroker) -> None:
    await broker.kill()
    await broker.start()


@pytest.mark.parametrize("ended", [_restarted, _killed])
async def test_no_job_is_lost_with_the_broker(
    ended: Callable[[PrivateBroker], Awaitable[None]], own: Trial
) -> None:
    own.endpoint.flow("flow", marked())
    workers = [await own.worker(), await own.worker()]
    running = [own.job(tokens=60, rate=20) for _ in range(8)]
    queued = [own.job() for _ in range(80)]
    with own.listening() as heard:
        await asyncio.sleep(_DECLARED_FOR_GOOD_AFTER_S)
        own.submit(*running, *queued)
        for job in running:
            await heard.saw(job.job_id, "token", 3)

        began = time.monotonic()
        await ended(own.broker)
        own.interrupted(began, time.monotonic() + 1)
        own.outage("a broker that is away", began, workers, red_within_s=_RED_WITHIN_S)
        every = await own.ended(*running, *queued, within_s=60)
        await own.verdict()

    assert {seen.end["status"] for seen in every} == {"completed"}
    again = every[: len(running)]
    # The broker may count a delivery that no worker got any more; calls are what costs.
    assert {seen.end["attempts"] for seen in again} <= {2, 3}
    assert {seen.end["calls"] for seen in again} == {2}


async def test_broker_that_stands_still_for_a_while_costs_no_attempt(own: Trial) -> None:
    own.endpoint.flow("flow", marked())
    worker = await own.worker()
    jobs = [own.job(tokens=60, rate=20) for _ in range(5)]
    with own.listening() as heard:
        own.submit(*jobs)
        for job in jobs:
            await heard.saw(job.job_id, "token", 3)

        began = time.monotonic()
        own.broker.suspend()
        await asyncio.sleep(6)
        own.broker.resume()
        own.outage("a broker that stands still", began, [worker])
        every = await own.ended(*jobs, within_s=30)
        await own.verdict()

    assert {seen.end["attempts"] for seen in every} == {1}
    assert not worker.log("broker.lost")


@pytest.mark.parametrize(
    ("alarm", "clear"),
    [
        pytest.param(
            ("set_vm_memory_high_watermark", "absolute", "1MB"),
            ("set_vm_memory_high_watermark", "absolute", "512MB"),
            id="memory",
        ),
        pytest.param(
            ("set_disk_free_limit", "90000GB"), ("set_disk_free_limit", "50MB"), id="disk"
        ),
    ],
)
async def test_alarm_longer_than_heartbeats_only_delays(
    alarm: tuple[str, ...], clear: tuple[str, ...], own: Trial
) -> None:
    own.endpoint.flow("flow", marked())
    worker = await own.worker(HEARTBEAT_SECONDS=_HEARTBEAT_S)
    jobs = [own.job(tokens=60, rate=20) for _ in range(5)]
    with own.listening() as heard:
        own.submit(*jobs)
        for job in jobs:
            await heard.saw(job.job_id, "token", 3)

        began = time.monotonic()
        await own.broker.rabbitmqctl(*alarm)
        await asyncio.sleep(_LONGER_THAN_HEARTBEATS_S)
        lost = len(worker.log("broker.lost"))
        await own.broker.rabbitmqctl(*clear)
        own.outage(f"an alarm about {alarm[0]}", began, [worker])
        own.interrupted(began)
        own.fenced(began)
        every = await own.ended(*jobs, within_s=40)
        await own.verdict()

    assert {seen.end["status"] for seen in every} == {"completed"}
    assert lost == 0
