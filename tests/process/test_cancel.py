"""Jobs are cancelled by plain AMQP, whichever worker has them, or before any has."""

import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from aimicromind_testing import (
    Head,
    Script,
    ScriptedEndpoint,
    Stall,
    answer,
    send,
    too_many_requests,
)
from tests.process.jobs import Job, a_job
from tests.process.stage import Stage
from tests.support.consumer import publish

SHOWS_A_WORD: Final = Script.of(Head(), send("token", "Once "), Stall()).stopped_by_abort()
WITHIN_S: Final = 1.0


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

        asked = time.monotonic()
        cancel(stage, *map(request_for, cancelled))
        every = await stage.ended(consumer, *cancelled)
        took_s = max(seen.attempts[1][-1].at for seen in every) - asked
        await stage.endpoint.until(lambda: len(stage.endpoint.live_calls) == 1)
        live = [call.session_id for call in stage.endpoint.live_calls]
        cancel(stage, by_job(spared))
        await stage.ended(consumer, spared)
        await stage.endpoint.until(lambda: not stage.endpoint.live_calls)
        await stage.stop_workers()

    assert took_s < WITHIN_S
    assert len(holders) == 3
    assert live == [spared.chat_id]
    for seen in every:
        assert seen.shown(1) == ["start", "token", "end"]
        assert (seen.end["status"], seen.end["text"]) == ("cancelled", "Once ")
        assert (seen.end["attempts"], seen.end["calls"]) == (1, 1)
    paths = {f"/api/v1/chatmessage/abort/flow/{call.chat_id}" for call in stage.endpoint.calls}
    assert set(aborts(stage.endpoint)) == paths
    assert stage.jobs_left() == stage.dead_jobs() == 0


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
