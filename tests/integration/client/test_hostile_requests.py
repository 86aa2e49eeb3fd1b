"""Requests that are not meant well cost those who send them, and no job anything."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel

from aimicromind_schemas.messages.catch_up import CatchUpRequest, SeenUpTo
from aimicromind_testing import answer
from tests.integration.client.late import late_follower
from tests.integration.stage import Stage
from tests.integration.workers import Chats, Running, chats_of, working
from tests.support.builders import SECRET, a_job
from tests.support.hostile import HOSTILE

REQUEST = CatchUpRequest("chat", "job")
_TOKENS = 200


@asynccontextmanager
async def running_job(stage: Stage) -> AsyncIterator[tuple[Running, Chats, AbstractChannel]]:
    """Have a job that streams for 10 s, and a channel that tells nothing of what becomes of it."""
    stage.endpoint.flow("flow", answer(_TOKENS, rate=20))
    async with (
        stage.listening(),
        chats_of(stage.connection, stage.names) as chats,
        working(stage.settings()) as worker,
        stage.connection.channel(publisher_confirms=False) as channel,
    ):
        await stage.put(a_job())
        await chats.shows("token")
        yield worker, chats, channel


async def send(channel: AbstractChannel, stage: Stage, body: bytes, reply_to: str) -> None:
    message = aio_pika.Message(body, reply_to=reply_to)
    await channel.default_exchange.publish(message, stage.names.chat_lease("chat"))


async def unharmed(worker: Running, chats: Chats) -> None:
    """Wait for the job's end: `end_of` checks the order of its events."""
    end = await chats.end_of("job")
    counts = worker.worker.event_counts
    assert (end["status"], end["attempts"], end["events"]) == ("completed", 1, _TOKENS + 3)
    assert (counts.reconnected, counts.refused, counts.sent_again, worker.times_ready) == (
        0,
        0,
        0,
        1,
    )
    assert len(chats.inbox.messages) == len(chats.inbox.ids)


async def test_queue_that_could_have_the_broker_close_the_connection_gets_no_answer(
    stage: Stage,
) -> None:
    names = [*HOSTILE.values(), "amq.rabbitmq.reply-to", "amq.gen-", stage.names.jobs]
    async with running_job(stage) as (worker, chats, channel):
        for name in names:
            await send(channel, stage, REQUEST.encode(), name)
        async with late_follower(stage, REQUEST) as late:
            assert await late.asks()
            await late.answered()
        await unharmed(worker, chats)


async def test_queue_that_is_gone_full_or_never_read_delays_no_event(stage: Stage) -> None:
    full: dict[str, Any] = {"x-max-length": 0, "x-overflow": "reject-publish"}
    async with running_job(stage) as (worker, chats, channel):
        refusing = await channel.declare_queue(exclusive=True, arguments=full)
        unread = await channel.declare_queue(exclusive=True)
        for number in range(50):
            body = CatchUpRequest("chat", "job", SeenUpTo(1, number)).encode()
            for name in ("nobody", refusing.name, unread.name):
                await send(channel, stage, body, name)
        async with late_follower(stage, REQUEST) as late:
            assert await late.asks()
            await late.answered()
        await unharmed(worker, chats)


async def test_flood_of_requests_is_answered_within_bounds_and_delays_no_event(
    stage: Stage,
) -> None:
    async with running_job(stage) as (worker, chats, channel):
        queue = await channel.declare_queue(exclusive=True)
        got: list[int] = []

        async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            got.append(len(message.body))

        await queue.consume(take, no_ack=True)
        for number in range(2_000):
            body = CatchUpRequest("chat", "job", SeenUpTo(1, number)).encode()
            await send(channel, stage, body, queue.name)
        async with late_follower(stage, REQUEST) as late:
            assert await late.asks()
            await late.answered()
        await unharmed(worker, chats)

    # 16 MB at once and 2 MB a second, of which each request takes 50 kB.
    assert 0 < len(got) < 1_000


async def test_mail_that_nobody_understands_changes_nothing(stage: Stage) -> None:
    odd = (
        *(b"", b"{}", b"[]", b"\xff", b'{"catchUp":7}', b"[" * 4_000, b"x" * 70_000),
        json.dumps({"catchUp": {"chatId": "another"}}).encode(),
        json.dumps({"catchUp": {"chatId": "chat", "jobId": [SECRET]}}).encode(),
        json.dumps({"turn": "waiting", "chatId": "chat", "worker": "x", "jobs": []}).encode(),
    )
    async with running_job(stage) as (worker, chats, channel):
        queue = await channel.declare_queue(exclusive=True)
        for body in odd:
            await send(channel, stage, body, queue.name)
            await send(channel, stage, body, "")
        await unharmed(worker, chats)
        answers = await channel.declare_queue(queue.name, passive=True)

    assert answers.declaration_result.message_count == 0


async def test_worker_that_loses_its_publishing_connection_answers_after_it(stage: Stage) -> None:
    async with running_job(stage) as (worker, chats, _), late_follower(stage, REQUEST) as late:
        publisher = worker.worker._process.publisher  # noqa: SLF001 - no public way to break it
        assert publisher is not None
        publisher.sender._channel._wire.abort()  # type: ignore[union-attr]  # noqa: SLF001
        while await late.asks() and not await late.is_answered():
            pass
        await chats.end_of("job")

    assert late.parts
