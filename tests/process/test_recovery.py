"""An answer that the server finished and saved is read there, not asked for a second time."""

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from aimicromind_schemas import Names
from aimicromind_testing import (
    Crash,
    PrivateBroker,
    answer,
    html_page,
    send,
    silent_answer,
)
from tests.process.jobs import Job, a_job
from tests.process.stage import Stage, set_up
from tests.support.checker.seen import Seen
from tests.support.consumer import Consumer

_TOKENS = 40
_WHOLE = "".join(f"tok{number} " for number in range(_TOKENS))
_USED = [{"tool": "mail", "toolInput": {}, "toolOutput": "sent"}]
_KEY = "k3y"


@pytest_asyncio.fixture
async def stage(broker: PrivateBroker, names: Names, tmp_path: Path) -> AsyncIterator[Stage]:
    async with set_up(broker, names, tmp_path, api_key=_KEY) as ready:
        yield ready


async def _whole(stage: Stage, consumer: Consumer, job: Job) -> Seen:
    (seen,) = await stage.ended(consumer, job, within_s=25)
    await stage.stop_workers()
    assert (seen.end["status"], seen.end["text"], seen.end["calls"]) == ("completed", _WHOLE, 1)
    assert len(stage.endpoint.calls) == 1
    assert stage.jobs_left() == stage.dead_jobs() == 0
    return seen


@pytest.mark.parametrize("saved_after_s", [0.0, 3.0])
async def test_rest_of_a_cut_answer_comes_in_the_same_attempt(
    stage: Stage, saved_after_s: float
) -> None:
    script = answer(_TOKENS, rate=40, after=[send("usedTools", _USED)])
    stage.endpoint.flow("flow", script.saved(saved_after_s).cut(after_sends=10))
    await stage.ready_worker()
    job = a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        seen = await _whole(stage, consumer, job)

    assert seen.shown(1) == ["start", "token", "usedTools", "metadata", "end"]
    assert seen.end["recovered"]


async def test_tool_that_ran_before_the_cut_runs_once(stage: Stage) -> None:
    script = answer(_TOKENS, rate=40, before=[send("usedTools", _USED)])
    stage.endpoint.flow("flow", script.cut(after_sends=10))
    await stage.ready_worker()
    job = a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        seen = await _whole(stage, consumer, job)

    assert seen.shown(1) == ["start", "usedTools", "token", "metadata", "end"]


async def test_answer_of_a_killed_worker_comes_whole_in_a_new_attempt(stage: Stage) -> None:
    script = answer(_TOKENS, rate=8, before=[send("usedTools", _USED)])
    stage.endpoint.flow("flow", script)
    first = await stage.ready_worker()
    job = a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        await consumer.saw(job.job_id, "token", 5)
        await stage.ready_worker()
        first.signal(signal.SIGKILL)
        await first.exits()
        seen = await _whole(stage, consumer, job)

    assert seen.shown(2) == ["start", "token", "usedTools", "metadata", "end"]
    assert seen.end["recovered"]


async def test_answer_of_a_worker_that_left_comes_whole_in_a_new_attempt(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(_TOKENS, rate=8))
    leaving = await stage.ready_worker()
    job = a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        await consumer.saw(job.job_id, "token", 2)
        await stage.ready_worker()
        leaving.signal(signal.SIGTERM)
        await leaving.logged("worker.draining")
        leaving.signal(signal.SIGTERM)
        seen = await _whole(stage, consumer, job)

    assert seen.shown(1) == ["start", "token", "retry"]
    assert seen.shown(2) == ["start", "token", "metadata", "end"]


async def test_success_without_a_token_is_checked_against_the_saved_message(stage: Stage) -> None:
    stage.endpoint.flow("flow", silent_answer(_WHOLE))
    await stage.ready_worker()
    job = a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        seen = await _whole(stage, consumer, job)

    assert seen.end["recovered"]


@pytest.mark.parametrize("tool", [False, True])
async def test_answer_that_died_with_its_server_is_asked_for_again_unless_a_tool_ran(
    stage: Stage,
    tool: bool,  # noqa: FBT001 - given by pytest
) -> None:
    before = [send("usedTools", _USED)] if tool else []
    dying = answer(_TOKENS, rate=100, before=before).cut(Crash(), after_sends=10)
    stage.endpoint.flow("flow", dying, answer(3))
    await stage.ready_worker(RECOVERY_SECONDS=2)
    job = a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        (seen,) = await stage.ended(consumer, job)
        await stage.stop_workers()

    assert seen.end["status"] == ("failed" if tool else "completed")
    assert len(stage.endpoint.calls) == (1 if tool else 2)
    assert not seen.end["recovered"]
    if tool:
        assert seen.only("error")["kind"] == "repeat_unsafe"


async def test_server_that_shows_no_messages_is_asked_for_them_once_for_each_flow(
    stage: Stage,
) -> None:
    stage.endpoint.instead_of_messages = html_page(404)
    for flow in ("first", "second"):
        cut = answer(_TOKENS, rate=100).cut(after_sends=10)
        stage.endpoint.flow(flow, cut, answer(3), cut, answer(3))
    worker = await stage.ready_worker()
    jobs = [a_job("first"), a_job("first"), a_job("second")]
    with stage.listen() as consumer:
        for job in jobs:
            stage.submit(job)
            (seen,) = await stage.ended(consumer, job)
            assert (seen.end["status"], seen.end["attempts"]) == ("completed", 2)
        await stage.stop_workers()

    asked = [request for request in stage.endpoint.other_requests if "chatmessage" in request.path]
    assert len(asked) == 2
    assert [it["chatflow_id"] for it in worker.log("recovery.off")] == ["first", "second"]
