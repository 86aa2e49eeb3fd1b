"""An answer that the server finished and saved is read there, not asked for a second time."""

import signal

import pytest

from aimicromind_testing import answer, send
from tests.process.jobs import a_job
from tests.process.stage import Stage

_USED = [{"tool": "mail", "toolInput": {}, "toolOutput": "sent"}]


@pytest.fixture
def api_key() -> str:
    return "k3y"


async def test_answer_of_a_killed_worker_comes_whole_in_a_new_attempt(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(40, rate=8, before=[send("usedTools", _USED)]))
    await stage.ready_workers(2)
    job = a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        await consumer.saw(job.job_id, "token", 5)
        (await stage.workers.holder(job.job_id)).signal(signal.SIGKILL)
        (seen,) = await stage.ended(consumer, job, within_s=25)
        await stage.stop_workers()

    assert seen.shown(2) == ["start", "token", "usedTools", "metadata", "end"]
    assert (seen.end["status"], seen.end["recovered"]) == ("completed", True)
    assert seen.end["text"] == "".join(f"tok{number} " for number in range(40))
    assert len(stage.endpoint.calls) == seen.end["calls"] == 1
    assert stage.jobs_left() == stage.dead_jobs() == 0
