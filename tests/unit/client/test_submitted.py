import asyncio
from datetime import timedelta

import pytest

from aimicromind_schemas import PredictionJob
from aimicromind_schemas.client.jobs import submitted
from aimicromind_schemas.client.jobs.submitted import SubmittedJobs
from tests.unit.client.deliveries import end


class _Failed(Exception):
    pass


async def _submit(
    jobs: SubmittedJobs, job_id: str, chat_id: str | None = "chat", after: str | None = None
) -> str | None:
    job = PredictionJob(chatflow_id="flow", question="Why?", chat_id=chat_id, after=after)
    async with jobs.submitting(job, job_id) as named:
        assert named.job_id == job_id
        return named.after


async def test_job_names_the_one_before_it_in_its_chat() -> None:
    jobs = SubmittedJobs()

    after = [await _submit(jobs, f"job-{number}") for number in range(3)]

    assert after == [None, "job-0", "job-1"]


async def test_jobs_of_other_chats_and_without_a_chat_are_not_named() -> None:
    jobs = SubmittedJobs()
    await _submit(jobs, "one", "a")
    await _submit(jobs, "two", None)

    assert await _submit(jobs, "three", "b") is None
    assert await _submit(jobs, "four", None) is None


async def test_after_that_the_caller_set_stays() -> None:
    jobs = SubmittedJobs()
    await _submit(jobs, "one")

    assert await _submit(jobs, "two", after="zero") == "zero"
    assert await _submit(jobs, "three") == "two"


async def test_job_that_was_not_submitted_is_not_named() -> None:
    jobs = SubmittedJobs()
    await _submit(jobs, "one")
    with pytest.raises(_Failed):
        async with jobs.submitting(
            PredictionJob(chatflow_id="flow", question="Why?", chat_id="chat"), "two"
        ):
            raise _Failed

    assert await _submit(jobs, "three") == "one"


async def test_job_that_is_submitted_again_names_the_same_and_not_itself() -> None:
    jobs = SubmittedJobs()
    await _submit(jobs, "one")
    await _submit(jobs, "two")

    assert await _submit(jobs, "two") == "one"


async def test_job_whose_end_was_seen_is_not_named() -> None:
    jobs = SubmittedJobs()
    await _submit(jobs, "one")
    jobs.ended(end("zero", 0))
    jobs.ended(end("one", 0))

    assert await _submit(jobs, "two") is None


async def test_job_of_long_ago_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = SubmittedJobs()
    await _submit(jobs, "one")
    monkeypatch.setattr(submitted, "_NAMED_FOR", timedelta(0))

    assert await _submit(jobs, "two") is None


async def test_jobs_of_a_chat_that_are_submitted_at_once_form_one_line() -> None:
    jobs = SubmittedJobs()

    async def slowly(job_id: str) -> tuple[str, str | None]:
        job = PredictionJob(chatflow_id="flow", question="Why?", chat_id="chat")
        async with jobs.submitting(job, job_id) as named:
            await asyncio.sleep(0.001)
            return job_id, named.after

    told = await asyncio.gather(*(slowly(f"job-{number}") for number in range(20)))

    assert told == [(f"job-{it}", f"job-{it - 1}" if it else None) for it in range(20)]


async def test_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submitted, "_KEPT", 3)
    jobs = SubmittedJobs()
    for number in range(10):
        await _submit(jobs, f"job-{number}", f"chat-{number}")

    assert [jobs.chat_of(f"job-{number}") for number in range(6, 10)] == [
        None,
        "chat-7",
        "chat-8",
        "chat-9",
    ]
    assert await _submit(jobs, "job-10", "chat-0") is None
