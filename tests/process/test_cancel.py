"""Jobs are cancelled by plain AMQP, whichever worker has them, or before any has."""

import asyncio
import json
import signal
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import pika
import pytest

from aimicromind_testing import (
    Head,
    Script,
    ScriptedEndpoint,
    Stall,
    answer,
    never_answers,
    send,
    too_many_requests,
)
from tests.process.jobs import Job, a_job
from tests.process.stage import Stage
from tests.support.consumer import publish
from tests.support.processes import serving_endpoint

SHOWS_A_WORD: Final = Script.of(Head(), send("token", "Once "), Stall()).stopped_by_abort()
WITHIN_S: Final = 1.0
RUNNING: Final = 120


def cancel(stage: Stage, *requests: dict[str, Any]) -> None:
    """Publish requests; every worker's queue and the log have them once this returns."""
    bodies = [(json.dumps(request).encode(), {"delivery_mode": 2}) for request in requests]
    publish(stage.broker.url, stage.names.control, "", *bodies)


def by_job(job: Job) -> dict[str, Any]:
    return {"cancel": {"jobId": job.job_id}}


def by_chat(job: Job) -> dict[str, Any]:
    return {"cancel": {"chatId": job.chat_id}, "submittedAt": datetime.now(UTC).isoformat()}


def timed_job(flow: str = "flow", **fields: object) -> Job:
    """Write a job that tells when it was submitted, to the microsecond."""
    now = datetime.now(UTC).isoformat(timespec="microseconds")
    return a_job(flow, {"headers": {"x-aimicromind-submitted-at": now}}, **fields)


def aborts(endpoint: ScriptedEndpoint) -> list[str]:
    asked = [it for it in endpoint.other_requests if it.method == "PUT"]
    return [request.path for request in asked]


async def all_calls_are_over(endpoint: ScriptedEndpoint) -> None:
    await endpoint.until(lambda: not endpoint.live_calls)


@pytest.mark.parametrize("request_for", [by_job, by_chat])
async def test_running_job_is_cancelled_on_any_of_three_workers(
    stage: Stage, request_for: Callable[[Job], dict[str, Any]]
) -> None:
    stage.endpoint.flow("flow", SHOWS_A_WORD)
    await stage.ready_workers(3, CONCURRENCY=2)
    jobs = [timed_job(tags={"number": str(number)}) for number in range(6)]
    with stage.listen() as consumer:
        stage.submit(*jobs)
        for job in jobs:
            await consumer.saw(job.job_id, "token")
        holders = {(await stage.workers.holder(job.job_id)).log_path for job in jobs}
        spared, cancelled = jobs[0], jobs[1:]

        cancel(stage, *map(request_for, cancelled))
        every = await stage.ended(consumer, *cancelled)
        await all_but_one_call_are_over(stage.endpoint)
        live = [call.session_id for call in stage.endpoint.live_calls]
        cancel(stage, by_job(spared))
        await stage.ended(consumer, spared)
        await all_calls_are_over(stage.endpoint)
        await stage.stop_workers()

    assert len(holders) == 3
    assert live == [spared.chat_id]
    for seen in every:
        assert seen.shown(1) == ["start", "token", "end"]
        assert (seen.end["status"], seen.end["text"]) == ("cancelled", "Once ")
        assert (seen.end["attempts"], seen.end["calls"]) == (1, 1)
    asked = {f"/api/v1/chatmessage/abort/flow/{call.chat_id}" for call in stage.endpoint.calls}
    assert set(aborts(stage.endpoint)) == asked
    assert stage.jobs_left() == stage.dead_jobs() == 0


async def all_but_one_call_are_over(endpoint: ScriptedEndpoint) -> None:
    await endpoint.until(lambda: len(endpoint.live_calls) == 1)


@pytest.mark.parametrize("request_for", [by_job, by_chat])
async def test_job_is_cancelled_before_any_worker_has_it(
    stage: Stage, request_for: Callable[[Job], dict[str, Any]]
) -> None:
    stage.endpoint.flow("flow", answer(3))
    await stage.ready_worker()
    await stage.stop_workers()
    cancelled, other = timed_job(tags={"team": "blue"}), timed_job()
    with stage.listen() as consumer:
        stage.submit(cancelled, other)
        cancel(stage, request_for(cancelled))
        await stage.ready_worker()
        (seen, untouched) = await stage.ended(consumer, cancelled, other)
        await stage.stop_workers()

    assert seen.shown(0) == ["end"]
    assert seen.end["status"] == "cancelled"
    assert (seen.end["attempts"], seen.end["calls"]) == (0, 0)
    assert untouched.end["status"] == "completed"
    assert len(stage.endpoint.calls) == 1
    assert stage.jobs_left() == stage.dead_jobs() == 0


async def test_job_is_cancelled_while_it_waits_to_call_again(stage: Stage) -> None:
    stage.endpoint.flow("flow", too_many_requests("4"))
    await stage.ready_worker()
    job = a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        await (await stage.workers.holder(job.job_id)).logged("retry.scheduled")

        asked = time.monotonic()
        cancel(stage, by_job(job))
        (seen,) = await stage.ended(consumer, job)
        took_s = seen.attempts[1][-1].at - asked
        await stage.stop_workers()

    assert seen.shown(1) == ["end"]
    assert (seen.end["status"], seen.end["calls"]) == ("cancelled", 1)
    assert took_s < WITHIN_S
    assert len(stage.endpoint.calls) == 1
    assert stage.dead_jobs() == 0


async def test_job_is_cancelled_while_it_waits_on_the_ladder(stage: Stage) -> None:
    stage.endpoint.flow("flow", too_many_requests("6"))
    await stage.ready_worker()
    job = a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        await consumer.saw(job.job_id, "retry")

        cancel(stage, by_job(job))
        (seen,) = await stage.ended(consumer, job)
        await stage.stop_workers()

    assert (seen.shown(1), seen.shown(2)) == (["retry"], ["end"])
    assert (seen.end["status"], seen.end["attempts"], seen.end["calls"]) == ("cancelled", 1, 1)
    assert len(stage.endpoint.calls) == 1
    assert stage.jobs_left() == stage.dead_jobs() == 0


async def test_job_of_a_killed_worker_is_cancelled_by_the_next_one(stage: Stage) -> None:
    stage.endpoint.flow("flow", SHOWS_A_WORD)
    worker, job = await stage.ready_worker(), a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        await consumer.saw(job.job_id, "token")
        worker.signal(signal.SIGKILL)
        await worker.exits()

        cancel(stage, by_job(job))
        await stage.ready_worker()
        (seen,) = await stage.ended(consumer, job)
        await stage.stop_workers()

    assert (seen.shown(1), seen.shown(2)) == (["start", "token"], ["end"])
    assert (seen.end["status"], seen.end["attempts"], seen.end["calls"]) == ("cancelled", 1, 1)
    assert len(stage.endpoint.calls) == 1


async def test_request_after_the_end_twice_or_for_nobody_changes_nothing(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(3))
    stage.endpoint.flow("hangs", SHOWS_A_WORD)
    worker = await stage.ready_worker()
    done, twice, other = timed_job(), timed_job("hangs"), timed_job()
    with stage.listen() as consumer:
        stage.submit(done, twice)
        await stage.ended(consumer, done)
        await consumer.saw(twice.job_id, "token")

        cancel(stage, by_job(done), by_chat(done), by_job(a_job()), by_chat(a_job()))
        cancel(stage, by_job(twice), by_job(twice), by_chat(twice))
        cancel(stage, {"cancel": {"jobId": "no id"}}, {"cancel": 7}, {})
        await stage.ended(consumer, twice)
        cancel(stage, by_job(twice))
        await worker.logged("cancel.malformed", count=3)
        stage.submit(other)
        every = await stage.ended(consumer, done, twice, other)
        await stage.stop_workers()

    assert [seen.end["status"] for seen in every] == ["completed", "cancelled", "completed"]
    assert len(aborts(stage.endpoint)) == 1
    assert "no id" not in worker.stderr
    assert stage.jobs_left() == stage.dead_jobs() == 0


async def test_next_job_of_the_chat_is_not_cancelled(stage: Stage) -> None:
    stage.endpoint.flow("hangs", SHOWS_A_WORD)
    stage.endpoint.flow("flow", answer(3))
    await stage.ready_workers(3)
    first = timed_job("hangs")
    with stage.listen() as consumer:
        stage.submit(first)
        await consumer.saw(first.job_id, "token")

        cancel(stage, by_chat(first))
        following = timed_job(chatId=first.chat_id)
        stage.submit(following)
        cut, whole = await stage.ended(consumer, first, following)
        await stage.stop_workers()

    assert (cut.end["status"], cut.end["text"]) == ("cancelled", "Once ")
    assert (whole.end["status"], whole.end["text"]) == ("completed", "tok0 tok1 tok2 ")
    assert len(aborts(stage.endpoint)) == 1


async def test_cancelled_job_that_comes_again_is_acknowledged(stage: Stage) -> None:
    stage.endpoint.flow("flow", never_answers())
    worker, job = await stage.ready_worker(), a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        await stage.endpoint.called(1)
        cancel(stage, by_job(job))
        await stage.ended(consumer, job)
        await stage.stop_workers()

        again = await stage.ready_worker()
        stage.submit(Job(job.fields, {"headers": {"x-aimicromind-attempt": 1}}))
        await again.logged("job.ended_before", status="cancelled")
        await stage.stop_workers()
        (seen,) = await stage.ended(consumer, job)

    assert not worker.runs
    assert seen.shown(1) == ["end"]
    assert stage.jobs_left() == stage.dead_jobs() == 0


def cancel_one_by_one(stage: Stage, jobs: list[Job]) -> dict[str, float]:
    """Give when each was cancelled, by the monotonic clock."""
    asked: dict[str, float] = {}
    with pika.BlockingConnection(pika.URLParameters(stage.broker.url)) as connection:
        channel = connection.channel()
        for job in jobs:
            asked[job.job_id] = time.monotonic()
            channel.basic_publish(stage.names.control, "", json.dumps(by_job(job)).encode())
            connection.sleep(0.02)
    return asked


async def test_cancel_is_quick_over_three_workers(
    stage: Stage, record_testsuite_property: Callable[[str, object], None]
) -> None:
    jobs = [a_job("load", question="n=1000 rate=5") for _ in range(RUNNING)]
    async with serving_endpoint() as url:
        await stage.ready_workers(3, BASE_URL=url, CONCURRENCY=RUNNING // 3)
        with stage.listen() as consumer:
            stage.submit(*jobs)
            for job in jobs:
                await consumer.saw(job.job_id, "token")
            asked = await asyncio.to_thread(cancel_one_by_one, stage, jobs)
            every = await stage.ended(consumer, *jobs)
            ended = {it.event["jobId"]: it.at for it in consumer.messages if it.name == "end"}
            await stage.stop_workers()

    assert {seen.end["status"] for seen in every} == {"cancelled"}
    took_s = [ended[job_id] - at for job_id, at in asked.items()]
    cuts = statistics.quantiles(took_s, n=100)
    record_testsuite_property(
        f"cancel to end, {RUNNING} running, p50, ms", round(cuts[49] * 1e3, 1)
    )
    record_testsuite_property(
        f"cancel to end, {RUNNING} running, p99, ms", round(cuts[98] * 1e3, 1)
    )
    assert max(took_s) < WITHIN_S
