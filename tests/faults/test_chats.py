"""Many jobs of few chats: one at a time, and no other chat waits for them."""

import time
from collections.abc import Callable

import pytest

from tests.faults.trial import Trial
from tests.process.jobs import Job
from tests.support.consumer import Heard
from tests.support.marked import marked

pytestmark = pytest.mark.timeout(240)

# What a job of another chat waits at most for 500 that came before it, all of one chat.
_DELAY_BOUND_S = 15.0


async def test_jobs_of_two_chats_run_one_at_a_time_over_three_workers(trial: Trial) -> None:
    trial.endpoint.flow("flow", marked())
    for _ in range(3):
        await trial.worker(CONCURRENCY=4)
    jobs = [trial.job(tokens=5, rate=20, chatId=f"chat-{number % 2}") for number in range(12)]
    with trial.listening():
        trial.submit(*jobs)
        every = await trial.ended(*jobs, within_s=60)
        await trial.verdict()

    assert {seen.end["status"] for seen in every} == {"completed"}
    assert {seen.end["attempts"] for seen in every} == {1}


async def test_hot_chat_delays_no_other(
    trial: Trial, record_property: Callable[[str, object], None]
) -> None:
    trial.endpoint.flow("flow", marked())
    for _ in range(3):
        await trial.worker(CONCURRENCY=8)
    hot = [trial.job(tokens=2, chatId="hot") for _ in range(500)]
    others = [trial.job(tokens=5, rate=20) for _ in range(50)]
    with trial.listening() as heard:
        trial.submit(*hot)
        trial.submit(*others)
        submitted = time.monotonic()
        every = await trial.ended(*others, within_s=60)
        delays = sorted(at - submitted for at in _ends(heard, others))
        every += await trial.ended(*hot, within_s=180)
        await trial.verdict()

    took_s = max(_ends(heard, hot)) - submitted
    record_property("others_median_s", delays[len(delays) // 2])
    record_property("others_most_s", delays[-1])
    record_property("hot_chat_took_s", took_s)
    assert {seen.end["status"] for seen in every} == {"completed"}
    assert {seen.end["attempts"] for seen in every} == {1}
    assert delays[-1] < _DELAY_BOUND_S


def _ends(heard: Heard, jobs: list[Job]) -> list[float]:
    return [heard.job(job.job_id)[-1].at for job in jobs]
