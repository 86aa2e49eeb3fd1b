"""What workers write to the journal, and what the next worker makes of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from pamqp.header import ContentHeader

from aimicromind_schemas import EndStatus
from aimicromind_testing import END, Head, Script, answer, send
from tests.integration.journals import a_journal
from tests.integration.outgoing import Way, publishing_at
from tests.integration.speaker import Speaker
from tests.integration.stage import Stage
from tests.integration.workers import Chats, working
from tests.support.amqp import reading, until_in_queue
from tests.support.builders import QUESTION, a_job
from tests.support.consumer import Message, give_back_unsettled, read_stream
from tests.support.waiting import until

Record = Callable[[str, object], None]

START = {"tags": {}, "redelivered": False, "upstream": None}
ENDED = {
    "status": "completed",
    "attempts": 1,
    "calls": 1,
    "events": 2,
    "durationSeconds": 1.0,
    "text": "",
    "recovered": False,
    "tags": {},
}


@asynccontextmanager
async def lost_job(stage: Stage) -> AsyncIterator[tuple[Chats, Way]]:
    """Have a job delivered to a worker that is lost; the body says how far that one came."""
    async with stage.listening() as chats, publishing_at(stage.broker.url, stage.names) as way:
        await stage.put(a_job())
        await asyncio.to_thread(give_back_unsettled, stage.broker.url, stage.names.jobs)
        yield chats, way


async def journal_of(stage: Stage) -> list[Message]:
    return await asyncio.to_thread(read_stream, stage.broker.url, stage.names.journal)


def begun(way: Way) -> Speaker:
    """Begin an attempt as the worker did that is lost then."""
    speaker = Speaker(way.publisher)
    speaker.record("start")
    speaker.say("start", START)
    return speaker


async def test_record_is_in_the_journal_before_its_event_is_published(stage: Stage) -> None:
    used = send("usedTools", [{"tool": "mail", "toolInput": {}, "toolOutput": "sent"}])
    told = send("metadata", {"chatId": "c", "question": QUESTION})
    stage.endpoint.flow("flow", Script.of(Head(), send("token", "a"), used, told, END))
    async with stage.working() as chats:
        async with stage.connection.channel() as channel:
            # The journal gets the events, too, in the order of publishing.
            journal = await channel.get_queue(stage.names.journal)
            await journal.bind(stage.names.events, "chat.#")
        await stage.put(a_job())
        end = await chats.end_of("job")

    kept = await journal_of(stage)
    told_by = [(it.name, "event" if it.exchange else "record") for it in kept]
    assert end["status"] == "completed"
    assert told_by == [
        ("start", "record"),
        ("start", "event"),
        ("token", "event"),
        ("usedTools", "record"),
        ("usedTools", "event"),
        ("metadata", "event"),
        ("end", "record"),
        ("end", "event"),
    ]


async def test_job_with_an_answer_of_a_megabyte_leaves_little_in_the_journal(
    stage: Stage, record_testsuite_property: Record
) -> None:
    stage.endpoint.flow("flow", answer(1000, token=lambda _: "x" * 1000))
    async with stage.working() as chats:
        await stage.put(a_job())
        end = await chats.end_of("job")
    async with reading(stage.connection, stage.names.journal) as kept:
        await kept.until(lambda: "job:end" in kept.ids)
        messages = [it for it in kept.messages if it.body]
        headers = [ContentHeader(0, it.body_size, it.properties).marshal() for it in messages]
        size_bytes = sum(map(len, headers)) + sum(len(it.body) for it in messages)

    record_testsuite_property("journal, a job with an answer of 1 MB, bytes", size_bytes)
    assert len(end["text"]) >= 1_000_000
    assert [it.type for it in messages] == ["start", "end"]
    assert size_bytes < 1500


async def test_job_whose_worker_was_lost_between_record_and_end_runs_again(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(2))
    async with lost_job(stage) as (chats, way):
        lost = begun(way)
        lost.record("end", {"status": "completed"})
        await lost.attempt_publisher.confirmed()

        async with working(stage.settings()):
            end = await chats.end_of("job")
            await until_in_queue(stage.connection, stage.names.jobs, 0)

    assert (end["status"], end["attempts"]) == ("completed", 2)
    assert len(stage.endpoint.calls) == 1


async def test_tool_of_a_job_that_was_lost_between_record_and_end_does_not_run_again(
    stage: Stage,
) -> None:
    stage.endpoint.flow("flow", answer(2))
    async with lost_job(stage) as (chats, way):
        lost = begun(way)
        lost.record("usedTools", data=True)
        lost.say("usedTools", [{"tool": "mail"}])
        lost.record("end", {"status": "completed"})
        await lost.attempt_publisher.confirmed()

        async with working(stage.settings()):
            await chats.inbox.until(lambda: "job:end" in chats.inbox.ids)

    assert [it["kind"] for it in chats.data("job", "error")] == ["repeat_unsafe"]
    assert stage.endpoint.calls == []


async def test_job_whose_worker_was_lost_between_end_and_acknowledgement_gets_the_same_end(
    stage: Stage,
) -> None:
    stage.endpoint.flow("flow", answer(2))
    async with lost_job(stage) as (chats, way):
        lost = begun(way)
        lost.record("end", {"status": "completed"})
        lost.say("end", ENDED)
        await lost.attempt_publisher.confirmed()

        def ends() -> list[bytes]:
            return [it.body for it in chats.inbox.messages if it.type == "end"]

        async with working(stage.settings()):
            await until(lambda: len(ends()) == 2)

    first, second = ends()
    assert first == second
    assert stage.endpoint.calls == []
    # Only the first end has a record.
    assert [it.name for it in await journal_of(stage)] == ["start", "end"]


async def test_journal_that_an_earlier_version_wrote_is_understood(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(2))
    async with lost_job(stage) as (chats, way):
        async with stage.connection.channel() as channel:
            journal = await channel.get_queue(stage.names.journal)
            for name in ("start", "retry", "error", "end", "usedTools", "calledTools", "action"):
                await journal.bind(stage.names.events, f"chat.*.{name}")
        earlier = Speaker(way.publisher)
        earlier.say("start", START)
        earlier.say("usedTools", [{"tool": "mail"}])
        earlier.say("end", ENDED | {"text": "x" * 200_000})
        await earlier.attempt_publisher.confirmed()
        known = await a_journal(stage.connection, way, stage.names).look_up("job", None)

        async with working(stage.settings()):
            await until(lambda: len([it for it in chats.inbox.messages if it.type == "end"]) == 2)
            await stage.put(a_job(jobId="new", chatId="new"))
            await chats.end_of("new")

    assert (known.status, known.side_effect, known.calls) == (EndStatus.COMPLETED, True, 1)
    assert len(stage.endpoint.calls) == 1
    mine = [it for it in await journal_of(stage) if it.event["jobId"] == "new"]
    assert [it.exchange for it in mine] == [""] * len(mine)
