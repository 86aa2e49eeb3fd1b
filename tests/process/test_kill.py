"""A worker is killed with jobs in hand; the one beside it carries them on."""

import asyncio
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import chain

import pytest

from aimicromind_testing import (
    Head,
    Script,
    ScriptedEndpoint,
    Stall,
    Step,
    Wait,
    answer,
    never_answers,
    send,
)
from tests.process.jobs import a_job
from tests.process.stage import Stage
from tests.support.consumer import cut, give_back_unsettled

# The system closes a killed process's connections: the broker need not wait for heartbeats.
_TAKEN_OVER_WITHIN_S = 5.0


def check_that_no_two_calls_share_a_chat(endpoint: ScriptedEndpoint) -> None:
    assert len({call.chat_id for call in endpoint.calls}) == len(endpoint.calls)


async def test_job_of_a_worker_killed_in_mid_stream_is_whole_the_second_time(
    stage: Stage, record_testsuite_property: Callable[[str, object], None]
) -> None:
    stage.endpoint.flow("flow", answer(60, rate=60))
    await stage.ready_workers(2)
    job = a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        await consumer.saw(job.job_id, "token", 20)

        (await stage.workers.holder(job.job_id)).signal(signal.SIGKILL)
        killed = time.monotonic()
        (seen,) = await stage.ended(consumer, job)
        await stage.stop_workers()

    first, second = seen.attempts[1], seen.attempts[2]
    assert first[-1].name == "token"
    assert [message.data["redelivered"] for message in (first[0], second[0])] == [False, True]
    assert seen.shown(2) == ["start", "token", "metadata", "end"]
    assert (seen.end["status"], seen.end["attempts"]) == ("completed", 2)
    assert seen.end["text"] == "".join(f"tok{number} " for number in range(60))
    assert [call.session_id for call in stage.endpoint.calls] == [job.chat_id] * 2
    check_that_no_two_calls_share_a_chat(stage.endpoint)
    assert stage.jobs_left() == 0
    taken_over_s = second[0].at - killed
    record_testsuite_property("from kill to second attempt, s", round(taken_over_s, 3))
    assert taken_over_s < _TAKEN_OVER_WITHIN_S


@pytest.mark.parametrize(
    ("silent", "shown"),
    [
        pytest.param(never_answers(), [], id="before headers"),
        pytest.param(Script.of(Head(), send("start", ""), Stall()), ["start"], id="after start"),
    ],
)
async def test_job_of_a_worker_killed_before_the_first_token_is_run_again(
    silent: Script, shown: list[str], stage: Stage
) -> None:
    stage.endpoint.flow("flow", silent, answer(5))
    await stage.ready_workers(2)
    job = a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        await stage.endpoint.called(1)
        for name in shown:
            await consumer.saw(job.job_id, name)

        (await stage.workers.holder(job.job_id)).signal(signal.SIGKILL)
        (seen,) = await stage.ended(consumer, job)
        await stage.stop_workers()

    assert [message.name for message in seen.attempts.get(1, [])] == shown
    assert seen.attempts[2][0].data["redelivered"] is True
    assert (seen.end["status"], seen.end["attempts"]) == ("completed", 2)
    assert seen.end["text"] == "tok0 tok1 tok2 tok3 tok4 "
    assert len(stage.endpoint.calls) == 2
    check_that_no_two_calls_share_a_chat(stage.endpoint)
    assert stage.jobs_left() == 0


@pytest.mark.parametrize("max_calls", [1, 2, 3])
async def test_jobs_of_a_killed_worker_go_on_side_by_side_however_few_calls_they_have(
    max_calls: int, stage: Stage, record_testsuite_property: Callable[[str, object], None]
) -> None:
    count = 16
    released = asyncio.Event()
    first = Script.of(Head(), send("token", "half "), Stall())
    stage.endpoint.flow("flow", *[first] * count, _held_until(released))
    killed = await stage.ready_worker(MAX_CALLS=max_calls)
    jobs = [a_job() for _ in range(count)]
    with stage.listen() as consumer:
        stage.submit(*jobs)
        for job in jobs:
            await consumer.saw(job.job_id, "token")

        killed.signal(signal.SIGKILL)
        killed_at = time.monotonic()
        await stage.ready_worker(MAX_CALLS=max_calls)
        await stage.endpoint.until(
            lambda: sum(call.live for call in stage.endpoint.calls[count:]) == count,
            timedelta(seconds=20),
        )
        released.set()
        every = await stage.ended(consumer, *jobs)
        record_testsuite_property(
            f"from kill to the end of {count} jobs with {max_calls} calls, s",
            round(time.monotonic() - killed_at, 3),
        )
        await stage.stop_workers()

    ends = {(it.end["status"], it.end["attempts"], it.end["calls"]) for it in every}
    assert ends == {("completed", 2, 2)}
    assert len(stage.endpoint.calls) == 2 * count
    check_that_no_two_calls_share_a_chat(stage.endpoint)
    assert (stage.jobs_left(), stage.dead_jobs()) == (0, 0)


def _held_until(released: asyncio.Event) -> Script:
    def waits() -> Iterator[Step]:
        while not released.is_set():
            yield Wait(0.05)

    return Script(lambda call: chain(waits(), answer(5).steps(call)))


@pytest.mark.parametrize(
    ("idempotent", "status", "calls"), [(None, "failed", 1), (True, "completed", 2)]
)
async def test_job_whose_tools_the_journal_has_forgotten_is_called_again_only_if_that_does_no_harm(
    idempotent: bool | None,  # noqa: FBT001 - given by pytest
    status: str,
    calls: int,
    stage: Stage,
) -> None:
    used = send("usedTools", [{"tool": "mail", "toolInput": {}, "toolOutput": "sent"}])
    stage.endpoint.flow("flow", Script.of(Head(), send("token", "a"), used, Stall()), answer(3))
    settings = {"JOURNAL_MAX_BYTES": 1_000_000}
    killed = await stage.ready_worker(**settings)
    submitted = datetime.now(UTC).isoformat()
    job = a_job(
        properties={"headers": {"x-aimicromind-submitted-at": submitted}}, idempotent=idempotent
    )
    with stage.listen() as consumer:
        stage.submit(job)
        await consumer.saw(job.job_id, "usedTools")
        await asyncio.to_thread(cut, stage.broker.url, stage.names.journal, datetime.now(UTC))

        killed.signal(signal.SIGKILL)
        await stage.ready_worker(**settings)
        (seen,) = await stage.ended(consumer, job)
        await stage.stop_workers()

    assert seen.end["status"] == status
    assert len(stage.endpoint.calls) == calls
    if status == "failed":
        assert seen.only("error")["kind"] == "repeat_unsafe"


async def test_job_that_comes_again_after_its_end_is_not_run_but_ends_again_as_it_did(
    stage: Stage,
) -> None:
    stage.endpoint.flow("flow", answer(3))
    worker, job = await stage.ready_worker(), a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        await stage.ended(consumer, job)
        worker.signal(signal.SIGTERM)
        assert await worker.exits(5) == 0
        # As if the worker had died between the confirm of the end and the acknowledgement.
        stage.submit(job)
        give_back_unsettled(stage.broker.url, stage.names.jobs)

        again = await stage.ready_worker()
        await again.logged("job.ended_before")
        await stage.stop_workers()
        (seen,) = await stage.ended(consumer, job)

        ends = [it for it in consumer.job(job.job_id) if it.name == "end"]

    assert seen.end["status"] == "completed"
    assert len(stage.endpoint.calls) == 1
    assert stage.jobs_left() == 0
    # A broker that is killed may keep an end in the endings and lose it for a consumer.
    assert [it.event for it in ends] == [ends[0].event] * 2
