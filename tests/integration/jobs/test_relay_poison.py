"""Messages and answers that are out to end the worker: only their own job may suffer."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pika
import pytest

from aimicromind_schemas.client.transport.message_header import noted
from aimicromind_testing import END, Head, Script, answer, frame, send
from aimicromind_testing.endpoint.script import Send
from aimicromind_worker.core.dead_letters.dead_letter import NotReplayable, read_dead_job, replayed
from tests.integration.stage import Stage
from tests.support import erlang
from tests.support.amqp import WITHIN_S, first_in, in_queue, until_in_queue
from tests.support.builders import a_job
from tests.support.raw import (
    HEADERS,
    MESSAGE_ID,
    TIMESTAMP,
    Raw,
    RawProperties,
    named,
    publish,
    table,
)

_LARGE_BYTES = 17 * 1024 * 1024


ODD = {
    "message_id that is no text": RawProperties(MESSAGE_ID, b"\x02\xff\xfe"),
    "time beyond all calendars": RawProperties(TIMESTAMP, struct.pack(">Q", 2**63)),
    "time in milliseconds": RawProperties(TIMESTAMP, struct.pack(">Q", 253_402_300_800_000)),
    "header name that is no text": RawProperties(HEADERS, table(b"\x02\xff\xfet\x01")),
    "header that is no text": RawProperties(
        HEADERS, table(b"\x01aS" + struct.pack(">I", 2) + b"\xff\xfe")
    ),
    "header that fits no float": RawProperties(
        HEADERS, table(b"\x01ad" + struct.pack(">d", 1e300))
    ),
    "header with a time beyond all calendars": RawProperties(
        HEADERS, table(b"\x01aT" + struct.pack(">Q", 2**64 - 1))
    ),
    "attempt beyond all counts": pika.BasicProperties(
        headers={"x-aimicromind-attempt": 2**63 - 1, "x-aimicromind-calls": 2**62}
    ),
}


def answered_with(header: tuple[str, str]) -> Script:
    head = Head(headers=(*Head().headers, header))
    return Script.of(head, send("token", "a"), send("metadata", {}), END)


@pytest.mark.parametrize("odd", ODD)
async def test_odd_properties_end_no_session_and_lose_no_job(odd: str, stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(20, rate=40))
    async with stage.working() as chats:
        await stage.put(a_job(jobId="neighbour"))
        await chats.shows("token")
        poison = a_job(jobId="poison", chatflowId="unknown")
        message = Raw(poison, ODD[odd], stage.names.jobs)
        await asyncio.to_thread(publish, stage.broker.port, [message])

        refused = await chats.end_of("poison")
        healthy = await chats.end_of("neighbour")

    assert refused["status"] == "failed"
    assert (healthy["status"], healthy["attempts"]) == ("completed", 1)


async def test_job_with_headers_as_large_as_a_frame_is_run(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(3))
    odd = RawProperties(HEADERS, table(named(b"long", b"S" + table(b"x" * 130_880))))
    message = Raw(a_job(jobId="long"), odd, stage.names.jobs)
    async with stage.listening() as chats:
        await asyncio.to_thread(publish, stage.broker.port, [message])
        jobs = await (await stage.connection.channel()).get_queue(stage.names.jobs)
        async with asyncio.timeout(WITHIN_S):
            while (taken := await jobs.get(fail=False)) is None:  # noqa: ASYNC110 - it rings no bell
                await asyncio.sleep(0.02)
        # Then the broker adds a header, and its frame is larger than any that was agreed on.
        await taken.reject(requeue=True)
        async with stage.working():
            end = await chats.end_of("long")

    assert taken.headers["long"] == "x" * 130_880
    assert end["status"] == "completed"


async def test_cookies_of_one_answer_do_not_travel_to_the_next(stage: Stage) -> None:
    stage.endpoint.flow("flow", answered_with(("Set-Cookie", "sid=USER; Path=/")))
    async with stage.working() as chats:
        for job_id in ("first", "second"):
            await stage.put(a_job(jobId=job_id))
            await chats.end_of(job_id)

    assert [call.headers.get("cookie") for call in stage.endpoint.calls] == [None, None]


async def test_event_that_grows_beyond_a_message_is_left_out(stage: Stage) -> None:
    grows = frame("x", "").replace(b'""', b'"' + b"\x01" * 3 * 1024 * 1024 + b'"')
    stage.endpoint.flow("flow", answer(1, after=[Send(grows)]))
    async with stage.working() as chats:
        await stage.put(a_job(jobId="job"))
        end = await chats.end_of("job")

    (left_out,) = [event for event in chats.of("job") if event["event"] == "x"]
    assert (left_out["data"], end["status"]) == (None, "completed")
    assert left_out["truncated"]["bytes"] > 12 * 1024 * 1024
    assert len(stage.endpoint.calls) == 1


async def test_answer_in_layers_of_compression_is_refused(stage: Stage) -> None:
    stage.endpoint.flow("flow", answered_with(("Content-Encoding", "gzip, gzip")))
    async with stage.working() as chats:
        await stage.put(a_job(jobId="job"))
        await chats.end_of("job")

    assert [error["kind"] for error in chats.data("job", "error")] == ["configuration"]


@pytest.mark.parametrize(
    ("reason", "status"), [("expired", "expired"), ("delivery_limit", "failed")]
)
async def test_job_that_the_broker_dead_lettered_gets_its_end(
    stage: Stage, reason: str, status: str
) -> None:
    async with stage.listening() as chats:
        await stage.put(a_job(), expiration=0.05 if reason == "expired" else None)
        jobs = await (await stage.connection.channel()).get_queue(stage.names.jobs)
        async with asyncio.timeout(WITHIN_S):
            while await in_queue(stage.connection, stage.names.jobs_reaped) == 0:
                if reason != "expired" and (message := await jobs.get(fail=False)) is not None:
                    await message.reject(requeue=True)

        async with stage.working():
            end = await chats.end_of("job")

    assert (end["status"], end["calls"]) == (status, 0)
    assert [error["kind"] for error in chats.data("job", "error")] == [reason]
    assert not stage.endpoint.calls


@asynccontextmanager
async def messages_up_to(stage: Stage, size: int) -> AsyncIterator[None]:
    """Have the broker take messages of that size and no larger ones."""
    limit = "application:set_env(rabbit, max_message_size, {})"
    previous = await erlang.evaluate(
        stage.broker, "{ok, Bytes} = application:get_env(rabbit, max_message_size), Bytes"
    )
    await erlang.evaluate(stage.broker, limit.format(size))
    try:
        yield
    finally:
        await erlang.evaluate(stage.broker, limit.format(previous))


@pytest.mark.parametrize("ids", [{"chatId": "chat", "jobId": "large"}, {}])
async def test_job_larger_than_any_is_told_once_and_kept_whole(
    stage: Stage, ids: dict[str, str]
) -> None:
    # Cut anywhere but at its beginning, it breaks off within a character.
    body = json.dumps(ids | {"question": "é" * (_LARGE_BYTES // 2)}, ensure_ascii=False).encode()
    message = Raw(body, pika.BasicProperties(delivery_mode=2), stage.names.jobs)
    stage.endpoint.flow("flow", answer(3))
    async with messages_up_to(stage, 2 * len(body)), stage.working() as chats:
        await asyncio.to_thread(publish, stage.broker.port, [message])
        await until_in_queue(stage.connection, stage.names.jobs_dead, 1)
        await stage.put(a_job(jobId="next"))
        await chats.end_of("next")
        # A second copy is the same job, though nothing names it.
        await asyncio.to_thread(publish, stage.broker.port, [message])
        await until_in_queue(stage.connection, stage.names.jobs_dead, 2)
        parked = await first_in(stage.connection, stage.names.jobs_dead)

    others = {event["jobId"] for event in chats.inbox.bodies()} - {"next"}
    assert len(others) == 1
    (job_id,) = others
    assert ids.get("jobId", job_id) == job_id
    assert chats.shown(job_id) == [(0, "error"), (0, "end")]
    assert [error["kind"] for error in chats.data(job_id, "error")] == ["too_large"]
    assert chats.data(job_id, "end")[0]["status"] == "rejected"
    assert {event["chatId"] for event in chats.of(job_id)} == {ids.get("chatId", job_id)}
    dead = read_dead_job(parked.body, parked.headers, None, noted(parked.headers).body_bytes)
    assert (dead.kind, dead.size_bytes) == ("too_large", len(body))
    with pytest.raises(NotReplayable, match=str(len(body))):
        replayed(parked.body, dead, "same")


async def test_event_that_is_too_large_for_the_broker_fails_its_job_alone(stage: Stage) -> None:
    stage.endpoint.flow("large", answer(5, token=("{}" + "x" * 20_000).format))
    stage.endpoint.flow("flow", answer(100, rate=50))
    async with messages_up_to(stage, 10_000), stage.working() as chats:
        await stage.put(a_job(jobId="neighbour"))
        await chats.shows("token")
        await stage.put(a_job(jobId="large", chatflowId="large"))
        large = await chats.end_of("large")
        neighbour = await chats.end_of("neighbour")

    assert large["status"] == "failed"
    assert (neighbour["status"], neighbour["attempts"]) == ("completed", 1)
    await until_in_queue(stage.connection, stage.names.jobs_dead, 1)
