"""Jobs that cannot be run, and jobs that need a name first."""

from uuid import UUID

import pytest

from aimicromind_testing import answer
from tests.integration.stage import Stage
from tests.support.amqp import first_in, in_queue, until_in_queue
from tests.support.builders import a_job
from tests.support.raw import put_raw


async def test_nameless_job_is_given_a_name_and_run_once(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(1))
    async with stage.working() as chats:
        await put_raw(stage.broker.port, stage.names.jobs, a_job(jobId=None, chatId=None))
        end = await chats.end_of_only_job()

    [job_id] = {event["jobId"] for event in chats.inbox.bodies()}
    assert str(UUID(job_id)) == job_id
    assert {event["chatId"] for event in chats.inbox.bodies()} == {job_id}
    assert (end["status"], end["attempts"], end["calls"]) == ("completed", 1, 1)
    assert len(stage.endpoint.calls) == 1
    await until_in_queue(stage.connection, stage.names.jobs, 0)


@pytest.mark.parametrize(
    ("body", "properties", "kind", "chat_id"),
    [
        (b"no JSON", {"message_id": "job"}, "invalid_job", "job"),
        (a_job(question=None), {}, "invalid_job", "chat"),
        (a_job(question="x" * 5000), {}, "too_large", "chat"),
        (a_job(), {"reply_to": "{prefix}.jobs"}, "invalid_job", "chat"),
        (a_job(chatId="c" * 240), {}, "invalid_job", "job"),
        (a_job(jobId=None), {"message_id": "no job id"}, "invalid_job", "chat"),
    ],
    ids=[
        *("text", "no question", "too large", "reply to jobs", "long chat", "bad message_id"),
    ],
)
async def test_job_that_cannot_be_run_is_rejected_and_parked(
    stage: Stage,
    body: bytes,
    properties: dict[str, str],
    kind: str,
    chat_id: str,
) -> None:
    named = {name: text.format(prefix=stage.names.prefix) for name, text in properties.items()}
    async with stage.working(max_job_bytes=4096) as chats:
        await stage.put(body, **named)
        end = await chats.end_of_only_job()
        dead = await first_in(stage.connection, stage.names.jobs_dead)

    error, last = chats.inbox.bodies()
    assert [error["event"], last["event"]] == ["error", "end"]
    assert [error["chatId"], last["chatId"]] == [chat_id, chat_id]
    assert (error["attempt"], error["data"]["kind"]) == (0, kind)
    assert (end["status"], end["attempts"], end["calls"]) == ("rejected", 0, 0)
    assert dead.body == body
    assert dead.headers["x-aimicromind-kind"] == kind
    assert dead.headers["x-aimicromind-message"] == error["data"]["message"]
    assert stage.endpoint.calls == []
    await until_in_queue(stage.connection, stage.names.jobs, 0)


async def test_rejected_jobs_do_not_keep_others_waiting(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(1))
    async with stage.working(concurrency=1) as chats:
        for number in range(10):
            await stage.put(b"nonsense %d" % number)
        await stage.put(a_job())

        assert (await chats.end_of("job"))["status"] == "completed"

    assert await in_queue(stage.connection, stage.names.jobs_dead) == 10
