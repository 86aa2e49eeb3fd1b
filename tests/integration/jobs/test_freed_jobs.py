"""What a job took is free once it has ended: no collector of garbage has to find it."""

import gc
from uuid import uuid4

import pytest

from aimicromind_schemas import RawJob
from aimicromind_testing import Cut, Head, Script, Wait, answer, send
from tests.integration.stage import Stage
from tests.support.builders import a_job
from tests.support.waiting import until

FAILS = Script.of(Head(), send("token", "a"), Wait(0.5), Cut())


@pytest.mark.parametrize(
    "scripts",
    [[answer(3, rate=5)], [FAILS, FAILS], [FAILS, answer(3, rate=5)], [answer(99, rate=5)]],
    ids=["completed", "failed", "completed at the second call", "out of time"],
)
async def test_job_that_ended_is_freed(stage: Stage, scripts: list[Script]) -> None:
    stage.endpoint.flow("flow", *scripts, *scripts)
    async with stage.working(max_calls=len(scripts)) as chats:
        for job_id in (str(uuid4()), str(uuid4())):
            await stage.put(a_job(jobId=job_id, timeoutSeconds=4))
            gc.collect()
            gc.disable()
            try:
                await until_held({job_id})
                await chats.end_of(job_id)
                await until_held(set())
            finally:
                gc.enable()


async def until_held(job_ids: set[str]) -> None:
    """Wait until this process has just these jobs in memory."""
    await until(lambda: held() == job_ids)


def held() -> set[str | None]:
    return {it.job_id for it in gc.get_objects() if isinstance(it, RawJob)}
