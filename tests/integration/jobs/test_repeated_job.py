"""The same `jobId` submitted again: one run over all workers, and the same `end` again."""

from datetime import UTC, datetime, timedelta

import pytest
from structlog.testing import capture_logs

from aimicromind_testing import END, Head, Script, answer, send
from tests.integration.stage import Stage
from tests.integration.workers import Chats, working
from tests.support.amqp import Inbox, in_queue
from tests.support.builders import a_job
from tests.support.waiting import until


async def _repeated(chats: Chats, job_id: str, times: int) -> list[bytes]:
    """Wait until a job's `end` came so often, and return the bodies."""

    def bodies() -> list[bytes]:
        return [it.body for it in chats.inbox.messages if it.message_id == f"{job_id}:end"]

    await until(lambda: len(bodies()) >= times)
    return bodies()


@pytest.mark.parametrize("chat_id", ["chat", "another"])
async def test_job_that_ended_on_another_worker_is_not_run_again(
    stage: Stage, chat_id: str
) -> None:
    stage.endpoint.flow("flow", answer(2))
    async with stage.listening() as chats, working(stage.settings()) as other:
        async with working(stage.settings()) as first:
            await stage.put(a_job())
            await chats.end_of("job")
            await first.leave()
        await other.ready()
        await stage.put(a_job(chatId=chat_id))

        first_end, second_end = await _repeated(chats, "job", 2)

    assert first_end == second_end
    assert len(stage.endpoint.calls) == 1


async def test_job_that_ended_before_the_worker_started_is_not_run_again(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(2))
    async with stage.listening() as chats:
        async with working(stage.settings()):
            await stage.put(a_job())
            await chats.end_of("job")
        with capture_logs() as logs:
            async with working(stage.settings()):
                await until(lambda: any(it["event"] == "journal.caught_up" for it in logs))
                await stage.put(a_job())

                ends = await _repeated(chats, "job", 2)

    assert len(set(ends)) == 1
    assert len(stage.endpoint.calls) == 1


async def test_failed_job_that_is_submitted_again_is_one_dead_letter(stage: Stage) -> None:
    stage.endpoint.flow("flow", Script.of(Head(), send("error", "Invalid history format"), END))
    async with stage.listening() as chats, working(stage.settings()):
        await stage.put(a_job())
        await chats.end_of("job")
        await stage.put(a_job())
        await _repeated(chats, "job", 2)

    assert await in_queue(stage.connection, stage.names.jobs) == 0
    assert await in_queue(stage.connection, stage.names.jobs_dead) == 1


async def test_copy_with_another_chat_waits_for_the_run_and_gets_its_end(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(40, rate=20))
    async with (
        stage.listening() as chats,
        working(stage.settings()),
        working(stage.settings()),
        stage.connection.channel() as channel,
    ):
        queue = await channel.declare_queue(exclusive=True)
        replies = Inbox()
        await queue.consume(replies.take, no_ack=True)
        await stage.put(a_job())
        await chats.shows("token")
        await stage.put(a_job(chatId="copy"), reply_to=queue.name)
        await chats.end_of("job")
        await replies.received(1)

    assert [it.message_id for it in replies.messages] == ["job:end"]
    assert not [it for it in chats.inbox.messages if "copy" in (it.routing_key or "")]
    assert len(stage.endpoint.calls) == 1


async def test_copy_that_expires_while_the_job_runs_ends_nothing(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(100, rate=20))
    with capture_logs() as logs:
        async with stage.listening() as chats, working(stage.settings()):
            await stage.put(a_job())
            await chats.shows("token")
            soon = datetime.now(UTC) + timedelta(seconds=1)
            await stage.put(a_job(chatId="copy", expiresAt=soon.isoformat()))
            await until(lambda: any(it["event"] == "job.copy_expired" for it in logs))

            assert (await chats.end_of("job"))["status"] == "completed"
    assert not [it for it in chats.inbox.messages if "copy" in (it.routing_key or "")]
