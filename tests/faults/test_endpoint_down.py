"""The endpoint is down for everybody, and comes back."""

import signal
import time

import httpx
import pytest

from aimicromind_testing import ScriptedEndpoint, status_answer
from tests.faults.trial import BACK_WITHIN_S, Trial, eventually
from tests.support.consumer import ready_messages
from tests.support.marked import marked
from tests.support.probes import turns

pytestmark = pytest.mark.timeout(120)


async def test_jobs_wait_while_the_endpoint_cannot_be_reached(trial: Trial) -> None:
    async with ScriptedEndpoint() as gone:
        nobody = gone.url
        port = int(gone.url.rpartition(":")[2])
    worker = await trial.worker(BASE_URL=nobody, CONCURRENCY=4)
    jobs = [trial.job(tokens=3) for _ in range(30)]
    with trial.listening():
        down = time.monotonic()
        trial.submit(*jobs)
        health = await worker.health_url()
        told = await turns(f"{health}/readyz", 503, BACK_WITHIN_S)
        await eventually(
            lambda: ready_messages(trial.broker.url, trial.names.jobs) >= len(jobs) - 8
        )
        async with httpx.AsyncClient() as client:
            live = await client.get(f"{health}/livez")
        async with ScriptedEndpoint(port=port) as back:
            back.flow("flow", marked())
            trial.endpoint = back
            trial.endpoint_was_down(down)
            trial.outage("the endpoint is down", down, [worker], red_within_s=BACK_WITHIN_S)
            every = await trial.ended(*jobs, within_s=60)
            calls = len(back.calls)
            await trial.verdict()

    assert "endpoint" in str(told)
    assert live.status_code == 200
    assert {seen.end["status"] for seen in every} == {"completed"}
    assert calls == len(jobs)


@pytest.mark.parametrize("status", [503, 521])
async def test_busy_endpoint_is_asked_for_one_job_at_a_time_until_it_answers(
    trial: Trial, status: int
) -> None:
    busy = status_answer(status, b"busy")
    trial.endpoint.flow("flow", *[busy] * 10, marked())
    await trial.worker(CONCURRENCY=8)
    jobs = [trial.job(tokens=3) for _ in range(30)]
    with trial.listening():
        trial.submit(*jobs)
        every = await trial.ended(*jobs, within_s=90)
        await trial.verdict()

    assert {seen.end["status"] for seen in every} == {"completed"}


async def test_outage_of_the_endpoint_uses_up_no_call_over_three_generations_of_workers(
    trial: Trial,
) -> None:
    async with ScriptedEndpoint() as gone:
        nobody = gone.url
        port = int(gone.url.rpartition(":")[2])
    jobs = [trial.job(tokens=3) for _ in range(20)]
    down = time.monotonic()
    trial.interrupted(down)
    first = await trial.worker(BASE_URL=nobody, CONCURRENCY=8, DRAIN_SECONDS=3)
    with trial.listening():
        trial.submit(*jobs)
        await first.logged("endpoint.down")
        first.signal(signal.SIGTERM)
        assert await first.exits() == 0
        second = await trial.worker(BASE_URL=nobody, CONCURRENCY=8)
        await second.logged("endpoint.down")
        trial.kill(second)
        third = await trial.worker(BASE_URL=nobody, CONCURRENCY=8)
        await third.logged("endpoint.down")
        async with ScriptedEndpoint(port=port) as back:
            returned = time.monotonic()
            back.flow("flow", marked())
            trial.endpoint = back
            trial.endpoint_was_down(down)
            every = await trial.ended(*jobs, within_s=60)
            took = time.monotonic() - returned
            calls = len(back.calls)
            await trial.verdict()

    assert {seen.end["status"] for seen in every} == {"completed"}
    assert {seen.end["calls"] for seen in every} == {1}
    assert calls == len(jobs)
    assert took < 10
