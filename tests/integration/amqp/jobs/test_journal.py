"""What the pool remembers, read from a real journal."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from aimicromind_schemas import EndStatus, FailureKind
from aimicromind_testing import Head, Script, answer, send
from aimicromind_worker.amqp import stream_reader
from aimicromind_worker.amqp.connection import connect
from aimicromind_worker.amqp.jobs.journal import Journal, JournalMemory, _Known
from aimicromind_worker.amqp.stream_reader import StreamUnreadable
from aimicromind_worker.core.job.history import History
from tests.integration.outgoing import publishing_at
from tests.integration.stage import Stage
from tests.support.amqp import BEAT
from tests.support.builders import a_job

JUST_NOW = timedelta(seconds=5)


@pytest.mark.parametrize("since", [None, JUST_NOW])
async def test_ended_jobs_are_remembered_whoever_asks_at_once(
    stage: Stage, since: timedelta | None
) -> None:
    used = send("usedTools", [{"tool": "mail"}])
    stage.endpoint.flow("well", answer(2))
    stage.endpoint.flow("cut", Script.of(Head(), send("token", "a"), used))
    async with stage.working(max_calls=2) as chats:
        await stage.put(a_job(jobId="well", chatflowId="well"))
        await stage.put(a_job(jobId="cut", chatflowId="cut"))
        await chats.end_of("well")
        await chats.end_of("cut")

        put_at = None if since is None else datetime.now(UTC) - since
        async with publishing_at(stage.broker.url, stage.names) as way:
            journal = Journal(
                stage.connection, way.publishing, stage.names.journal, JournalMemory()
            )
            well, cut = await asyncio.gather(
                *(journal.look_up(job, put_at) for job in ("well", "cut"))
            )

    assert (well.last_attempt, well.calls, well.status) == (1, 1, EndStatus.COMPLETED)
    assert (cut.status, cut.kind) == (EndStatus.FAILED, FailureKind.REPEAT_UNSAFE)
    assert (well.side_effect, cut.side_effect) == (False, True)


async def test_what_comes_between_two_questions_is_known_to_the_second(stage: Stage) -> None:
    stage.endpoint.flow("well", answer(2))
    async with stage.working() as chats, publishing_at(stage.broker.url, stage.names) as way:
        journal = Journal(stage.connection, way.publishing, stage.names.journal, JournalMemory())
        now = datetime.now(UTC)
        before = await journal.look_up("later", now)
        for job in ("first", "later"):
            await stage.put(a_job(jobId=job, chatId=job, chatflowId="well"))
            await chats.end_of(job)
        answers = [await journal.look_up(job, now) for job in ("later", "first", "later")]

    assert before == History()
    assert [each.status for each in answers] == [EndStatus.COMPLETED] * 3


async def test_job_older_than_what_is_kept_is_still_remembered(stage: Stage) -> None:
    stage.endpoint.flow("well", answer(2))
    async with stage.working() as chats, publishing_at(stage.broker.url, stage.names) as way:
        journal = Journal(
            stage.connection, way.publishing, stage.names.journal, JournalMemory(), jobs_kept=1
        )
        put_at = {}
        for job in ("a", "b", "c"):
            put_at[job] = datetime.now(UTC)
            await stage.put(a_job(jobId=job, chatId=job, chatflowId="well"))
            await chats.end_of(job)
        young = put_at["c"] + timedelta(minutes=16)
        asked = [("c", young), ("a", put_at["a"]), ("c", young), ("b", None), ("a", put_at["a"])]
        answers = [await journal.look_up(job, since) for job, since in asked]

    assert [each.status for each in answers] == [EndStatus.COMPLETED] * len(asked)


async def test_next_session_knows_what_was_read_and_what_came_since(stage: Stage) -> None:
    stage.endpoint.flow("well", answer(2))
    memory, now = JournalMemory(), datetime.now(UTC)
    answers = []
    async with stage.working() as chats, publishing_at(stage.broker.url, stage.names) as way:
        for job in ("first", "second"):
            await stage.put(a_job(jobId=job, chatId=job, chatflowId="well"))
            await chats.end_of(job)
            journal = Journal(stage.connection, way.publishing, stage.names.journal, memory)
            answers += [await journal.look_up(each, now) for each in ("first", "second")]

    statuses = [each.status for each in answers]
    assert statuses == [EndStatus.COMPLETED, None, EndStatus.COMPLETED, EndStatus.COMPLETED]


async def test_memory_of_a_journal_that_was_made_anew_is_given_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_reader, "_FIRST_WITHIN_S", 1.0)
    now = datetime.now(UTC)
    memory = JournalMemory(read_from=now - timedelta(hours=1), next_offset=9_000)
    memory.read["job"] = _Known(History(last_attempt=7), now)
    async with stage.listening(), publishing_at(stage.broker.url, stage.names) as way:
        journal = Journal(stage.connection, way.publishing, stage.names.journal, memory)

        assert await journal.look_up("job", datetime.now(UTC)) == History()


async def test_journal_that_is_not_there_is_unreadable(stage: Stage) -> None:
    async with publishing_at(stage.broker.url, stage.names) as way:
        journal = Journal(stage.connection, way.publishing, "no-such-stream", JournalMemory())

        with pytest.raises(StreamUnreadable, match="no-such-stream"):
            await journal.look_up("job", None)


async def test_journal_is_unreadable_once_the_connection_has_closed(stage: Stage) -> None:
    async with stage.listening(), publishing_at(stage.broker.url, stage.names) as way:
        async with connect([stage.broker.url], "closed", BEAT) as closed:
            journal = Journal(closed, way.publishing, stage.names.journal, JournalMemory())

        with pytest.raises(StreamUnreadable):
            await journal.look_up("job", None)


async def test_end_is_found_again_byte_for_byte_among_others(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(2))
    job_ids = [f"job-{number}" for number in range(3)]
    async with stage.working() as chats:
        for job_id in job_ids:
            await stage.put(a_job(jobId=job_id))
            await chats.end_of(job_id)
    published = {it.message_id: it.body for it in chats.inbox.messages}
    async with publishing_at(stage.broker.url, stage.names) as way:
        journal = Journal(stage.connection, way.publishing, stage.names.journal, JournalMemory())

        before = await journal.end_of(job_ids[1])
        await asyncio.gather(*(journal.look_up(job_id, None) for job_id in (*job_ids, "unknown")))
        ends = [await journal.end_of(job_id) for job_id in (*job_ids, "unknown")]

    assert before is None
    assert ends == [*(published[f"{job_id}:end"] for job_id in job_ids), None]
