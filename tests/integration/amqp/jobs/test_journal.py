"""What the pool remembers, read from a real journal."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from aio_pika import Message
from pamqp import commands
from pamqp.header import ContentHeader

from aimicromind_schemas import EndStatus, FailureKind, Names
from aimicromind_schemas.client.streams import reader as stream_reader
from aimicromind_schemas.client.streams.journal_follower import JournalState
from aimicromind_schemas.client.streams.reader import StreamUnreadable
from aimicromind_schemas.client.transport.stream_frames import StreamMessage
from aimicromind_schemas.journal.history import History, StoredEnd, read_milestone
from aimicromind_schemas.journal.memory import JobMemory
from aimicromind_testing import Head, Script, answer, send
from aimicromind_worker.amqp.connection import connect
from aimicromind_worker.amqp.jobs.journal import JournalMemory
from tests.integration.journals import a_journal, live_journal
from tests.integration.outgoing import publishing_at
from tests.integration.stage import Stage
from tests.support.amqp import BEAT, delete_queue
from tests.support.builders import a_job
from tests.support.waiting import until

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
            journal = a_journal(stage.connection, way, stage.names)
            well, cut = await asyncio.gather(
                *(journal.look_up(job, put_at) for job in ("well", "cut"))
            )

    assert (well.last_attempt, well.calls, well.status) == (1, 1, EndStatus.COMPLETED)
    assert (cut.status, cut.kind) == (EndStatus.FAILED, FailureKind.REPEAT_UNSAFE)
    assert (well.side_effect, cut.side_effect) == (False, True)


async def test_what_comes_between_two_questions_is_known_to_the_second(stage: Stage) -> None:
    stage.endpoint.flow("well", answer(2))
    async with stage.working() as chats, publishing_at(stage.broker.url, stage.names) as way:
        journal = a_journal(stage.connection, way, stage.names)
        now = datetime.now(UTC)
        before = await journal.look_up("later", now)
        for job in ("first", "later"):
            await stage.put(a_job(jobId=job, chatId=job, chatflowId="well"))
            await chats.end_of(job)
        answers = [await journal.look_up(job, now) for job in ("later", "first", "later")]

    assert before == History()
    assert [each.status for each in answers] == [EndStatus.COMPLETED] * 3


async def test_live_journal_answers_without_reading_anything_again(stage: Stage) -> None:
    stage.endpoint.flow("well", answer(2))
    async with stage.working() as chats, publishing_at(stage.broker.url, stage.names) as way:
        await stage.put(a_job(jobId="before", chatId="before", chatflowId="well"))
        await chats.end_of("before")
        async with live_journal(stage.connection, way, stage.names) as journal:
            streams = len(stage.connection.wire.demultiplexer.streams)
            await stage.put(a_job(jobId="since", chatId="since", chatflowId="well"))
            await chats.end_of("since")
            job_ids = ("before", "since", "never")
            # All of the journal is known: also what is left of jobs that tell no time.
            times = (datetime.now(UTC), None)
            asked = (journal.look_up(job_id, since) for since in times for job_id in job_ids)
            known = await asyncio.gather(*asked)

            assert len(stage.connection.wire.demultiplexer.streams) == streams == 1
    assert [it.status for it in known] == [EndStatus.COMPLETED, EndStatus.COMPLETED, None] * 2
    assert [it.last_attempt for it in known] == [1, 1, 0] * 2


async def test_job_from_before_what_is_kept_is_read_for_alone(stage: Stage) -> None:
    stage.endpoint.flow("well", answer(2))
    memory = JournalMemory(JournalState(JobMemory(most_ended=2)))
    async with (
        stage.working() as chats,
        publishing_at(stage.broker.url, stage.names) as way,
        live_journal(stage.connection, way, stage.names, memory) as journal,
    ):
        for job in ("a", "b", "c"):
            await stage.put(a_job(jobId=job, chatId=job, chatflowId="well"))
            await chats.end_of(job)
        put_at = datetime.now(UTC) - timedelta(seconds=5)
        known = [await journal.look_up(job, put_at) for job in ("a", "b", "c")]

    assert [each.status for each in known] == [EndStatus.COMPLETED] * 3


async def test_job_that_is_forgotten_while_it_is_looked_up_is_read_for_alone(stage: Stage) -> None:
    stage.endpoint.flow("well", answer(2))
    memory = JournalMemory(JournalState(JobMemory(most_ended=2)))
    async with (
        stage.working() as chats,
        publishing_at(stage.broker.url, stage.names) as way,
        live_journal(stage.connection, way, stage.names, memory) as journal,
    ):
        for job in ("a", "b"):
            await stage.put(a_job(jobId=job, chatId=job, chatflowId="well"))
            await chats.end_of(job)
        await until(lambda: len(memory.state.jobs.ended) == 2)
        # On one channel: the third end comes before the marker of the look-up.
        third = b'{"jobId":"c","attempt":1,"time":"%b","event":"end","data":{"status":"completed"}}'
        now = datetime.now(UTC)
        end = Message(third % now.isoformat().encode())
        _, known = await asyncio.gather(
            way.publishing.publish(end, "", stage.names.journal), journal.look_up("a", now)
        )

        assert memory.state.jobs.history("a") is None
    assert known.status is EndStatus.COMPLETED


async def test_next_session_knows_what_was_read_and_what_came_since(stage: Stage) -> None:
    stage.endpoint.flow("well", answer(2))
    memory, now = JournalMemory(), datetime.now(UTC)
    answers = []
    async with stage.working() as chats, publishing_at(stage.broker.url, stage.names) as way:
        for job in ("first", "second"):
            await stage.put(a_job(jobId=job, chatId=job, chatflowId="well"))
            await chats.end_of(job)
            async with live_journal(stage.connection, way, stage.names, memory) as journal:
                answers += [await journal.look_up(each, now) for each in ("first", "second")]

    statuses = [each.status for each in answers]
    assert statuses == [EndStatus.COMPLETED, None, EndStatus.COMPLETED, EndStatus.COMPLETED]


async def test_memory_of_a_journal_that_was_made_anew_is_given_up(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_reader, "_FIRST_WITHIN_S", 1.0)
    now = datetime.now(UTC)
    memory = JournalMemory()
    memory.state.jobs.complete_since = now - timedelta(hours=1)
    body = b'{"jobId":"job","attempt":7,"time":"%b","event":"token","data":1}'
    milestone = read_milestone(body % now.isoformat().encode())
    assert milestone is not None
    memory.state.jobs.take(milestone)
    headers = commands.Basic.Properties(headers={"x-stream-offset": 9_000})
    memory.state.last = StreamMessage(ContentHeader(0, 0, headers).marshal(), b"")
    async with (
        stage.listening(),
        publishing_at(stage.broker.url, stage.names) as way,
        live_journal(stage.connection, way, stage.names, memory) as journal,
    ):
        assert await journal.look_up("job", datetime.now(UTC)) == History()


async def test_journal_that_is_not_there_is_unreadable(stage: Stage) -> None:
    async with publishing_at(stage.broker.url, stage.names) as way:
        journal = a_journal(stage.connection, way, Names("nobody"))

        with pytest.raises(StreamUnreadable, match=r"nobody\.journal"):
            await journal.look_up("job", None)


async def test_journal_is_unreadable_once_the_connection_has_closed(stage: Stage) -> None:
    async with stage.listening(), publishing_at(stage.broker.url, stage.names) as way:
        async with connect([stage.broker.url], "closed", BEAT) as closed:
            journal = a_journal(closed, way, stage.names)

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
        journal = a_journal(stage.connection, way, stage.names)

        now = datetime.now(UTC)
        ends = [
            await journal.end_of(job_id, at)
            for job_id in (*job_ids, "unknown", "b-1")
            for at in (now, now - timedelta(minutes=1), None)
        ]

    expected = [*(published[f"{job_id}:end"] for job_id in job_ids), None, None]
    assert ends == [StoredEnd(body) for body in expected for _ in range(3)]


async def test_journal_that_was_made_anew_and_has_grown_is_read_from_its_beginning(
    stage: Stage,
) -> None:
    memory = JournalMemory()
    stage.endpoint.flow("well", answer(2))
    async with publishing_at(stage.broker.url, stage.names) as way:
        async with stage.listening(), live_journal(stage.connection, way, stage.names, memory):
            pass
        await delete_queue(stage.connection, stage.names.journal)
        async with stage.working() as chats:
            await stage.put(a_job(chatflowId="well"))
            await chats.end_of("job")
            async with live_journal(stage.connection, way, stage.names, memory) as journal:
                known = await journal.look_up("job", datetime.now(UTC))

    assert known.status is EndStatus.COMPLETED
