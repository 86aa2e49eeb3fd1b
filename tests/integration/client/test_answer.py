"""A flow that waits for a person, from its question to the answer that runs, on recordings."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from aimicromind_schemas import ActionEvent
from aimicromind_schemas.client import CannotAnswer, Client
from aimicromind_testing import answer, play, send
from tests.integration.client.stage import WITHIN, a_job, client_of
from tests.integration.stage import Stage
from tests.integration.workers import working
from tests.support.amqp import WITHIN_S


async def asked(client: Client) -> ActionEvent:
    """Have a flow ask, and return its question before its job has ended."""
    async with client.request(a_job(question="start please")) as items, asyncio.timeout(WITHIN_S):
        async for item in items:
            if isinstance(item, ActionEvent):
                return item
    raise AssertionError("the flow asked nothing")


async def test_question_that_two_services_answer_at_once_is_answered_once(stage: Stage) -> None:
    stage.endpoint.flow("flow", play("d-hitl-1-ask", 0), play("d-hitl-2-proceed", 0))
    async with (
        working(stage.settings()),
        stage.working(),
        client_of(stage) as one,
        client_of(stage) as other,
    ):
        question = await asked(one)
        job_ids = await asyncio.gather(
            one.answer(question, approve=True, feedback="yes go", within=WITHIN),
            other.answer(question, approve=False, within=WITHIN),
        )
        ends = [
            await it.result(job_id, chat_id=question.chat_id, within=WITHIN)
            for it, job_id in zip((one, other), job_ids, strict=True)
        ]
        late = await other.answer(question, approve=False, within=WITHIN)
        again = await other.result(late, chat_id=question.chat_id, within=WITHIN)

    assert ends[0] == ends[1] == again
    assert ends[0].data.status == "completed"
    first, second = (call.json for call in stage.endpoint.calls)
    assert second["overrideConfig"]["sessionId"] == first["overrideConfig"]["sessionId"]
    decided = {"approved": "proceed", "rejected": "reject"}[ends[0].data.tags["decision"]]
    assert second["humanInput"]["type"] == decided


async def test_flow_that_failed_after_its_question_is_not_answered(stage: Stage) -> None:
    asks = send("action", {"id": "q", "data": {"nodeId": "human_0"}})
    stage.endpoint.flow("flow", answer(1, after=[asks, send("error", "Bad request")]))
    async with stage.working(), client_of(stage) as client:
        question = await asked(client)

        with pytest.raises(CannotAnswer, match="failed"):
            await client.answer(question, approve=True, within=WITHIN)

    assert len(stage.endpoint.calls) == 1


async def test_answer_that_is_not_run_before_the_question_expires_is_not_run(
    stage: Stage,
) -> None:
    stage.endpoint.flow("flow", play("d-hitl-1-ask", 0), play("d-hitl-2-proceed", 0))
    async with client_of(stage) as client:
        async with stage.working():
            question = await asked(client)
            await client.result(question.job_id, within=WITHIN)
        limit = datetime.now(UTC) - question.time + timedelta(seconds=2)
        job_id = await client.answer(question, approve=True, expires_after=limit, within=WITHIN)
        await asyncio.sleep((question.time + limit - datetime.now(UTC)).total_seconds())
        async with stage.working():
            end = await client.result(job_id, within=WITHIN)

    assert end.data.status == "expired"
    assert len(stage.endpoint.calls) == 1
