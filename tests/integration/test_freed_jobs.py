"""What a job took is free once it has ended: no collector of garbage has to find it."""

import asyncio
import gc
from uuid import uuid4

import pytest

from aimicromind_schemas import PredictionJob
from aimicromind_worker.testing import Cut, Head, Script, answer, send
from tests.integration.stage import Stage
from tests.support.amqp import WITHIN_S
from tests.support.builders import a_job

FAILS = Script.of(Head(), send("token", "a"), Cut())


@pytest.mark.parametrize("script", [answer(3), FAILS], ids=["completed", "failed"])
async def test_job_that_ended_is_freed(stage: Stage, script: Script) -> None:
    stage.endpoint.flow("flow", script, script)
    async with stage.working(max_calls=1) as chats:
        for job_id in (str(uuid4()), str(uuid4())):
            await stage.put(a_job(jobId=job_id))
            gc.collect()
            gc.disable()
            try:
                await chats.end_of(job_id)
                async with asyncio.timeout(WITHIN_S):
                    while job_id in held():  # noqa: ASYNC110 - it rings no bell
                        await asyncio.sleep(0.05)
            finally:
                gc.enable()


def held() -> set[str | None]:
    """Name the jobs that this process has in memory."""
    return {it.job_id for it in gc.get_objects() if isinstance(it, PredictionJob)}
