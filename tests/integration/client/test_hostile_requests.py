"""Requests that are not meant well cost those who send them, and no job anything."""

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel

from aimicromind_schemas.messages.catch_up import CatchUpRequest, SeenUpTo
from aimicromind_testing import END, Call, Head, Script, Step, Wait, send
from tests.integration.client.late import late_follower
from tests.integration.stage import Stage
from tests.integration.workers import Chats, Running, chats_of, working
from tests.support.builders import SECRET, a_job
from tests.support.hostile import HOSTILE

REQUEST = CatchUpRequest("chat", "job")


class Answer:
    """Twenty tokens a second until it is to end, however fast the test gets there.

    Attributes:
        tokens: How many it has sent.
        ends: Whether the next step is its end.
    """

    def __init__(self) -> None:
        self.tokens = 0
        self.ends = False

    def steps(self, call: Call) -> Iterator[Step]:
        yield Head()
        yield send("start", "")
        while not self.ends:
            yield Wait(0.05)
            self.tokens += 1
            yield send("token", f"tok{self.tokens} ")
        yield send("metadata", {"chatId": call.chat_id})
        yield END


@dataclass(frozen=True, slots=True)
class RunningJob:
    """A job under way, and a channel that tells nothing of what becomes of its messages."""

    answer: Answer
    worker: Running
    chats: Chats
    channel: AbstractChannel

    async def unharmed(self) -> None:
        """Let the job end: `end_of` checks the order of its events."""
        self.answer.ends = True
        end = await self.chats.end_of("job")
        counts = self.worker.worker.event_counts
        assert (end["status"], end["attempts"]) == ("completed", 1)
        assert end["events"] == self.answer.tokens + 3
        assert (counts.reconnected, counts.refused, counts.sent_again) == (0, 0, 0)
        assert self.worker.times_ready == 1
        assert len(self.chats.inbox.messages) == len(self.chats.inbox.ids)


@asynccontextmanager
async def running_job(stage: Stage) -> AsyncIterator[RunningJob]:
    """Have a job that streams until `unharmed`."""
    answer = Answer()
    stage.endpoint.flow("flow", Script(answer.steps))
    async with (
        stage.listening(),
        chats_of(stage.connection, stage.names) as chats,
        working(stage.settings()) as worker,
        stage.connection.channel(publisher_confirms=False) as channel,
    ):
        await stage.put(a_job())
        await chats.shows("token")
        yield RunningJob(answer, worker, chats, channel)


async def ask(channel: AbstractChannel, stage: Stage, body: bytes, reply_to: str) -> None:
    message = aio_pika.Message(body, reply_to=reply_to)
    await channel.default_exchange.publish(message, stage.names.chat_lease("chat"))


async def test_queue_that_could_have_the_broker_close_the_connection_gets_no_answer(
    stage: Stage,
) -> None:
    names = [*HOSTILE.values(), "amq.rabbitmq.reply-to", "amq.gen-", stage.names.jobs]
    async with running_job(stage) as job:
        for name in names:
            await ask(job.channel, stage, REQUEST.encode(), name)
        async with late_follower(stage, REQUEST) as late:
            assert await late.asks()
            await late.answered()
        await job.unharmed()


async def test_queue_that_is_gone_full_or_never_read_delays_no_event(stage: Stage) -> None:
    full: dict[str, Any] = {"x-max-length": 0, "x-overflow": "reject-publish"}
    async with running_job(stage) as job:
        refusing = await job.channel.declare_queue(exclusive=True, arguments=full)
        unread = await job.channel.declare_queue(exclusive=True)
        for number in range(50):
            body = CatchUpRequest("chat", "job", SeenUpTo(1, number)).encode()
            for name in ("nobody", refusing.name, unread.name):
                await ask(job.channel, stage, body, name)
        async with late_follower(stage, REQUEST) as late:
            assert await late.asks()
            await late.answered()
        await job.unharmed()


async def test_flood_of_requests_is_answered_within_bounds_and_delays_no_event(
    stage: Stage,
) -> None:
    began = time.monotonic()
    async with running_job(stage) as job:
        queue = await job.channel.declare_queue(exclusive=True)
        got: list[int] = []

        async def take(message: aio_pika.abc.AbstractIncomingMessage) -> None:
            got.append(len(message.body))

        await queue.consume(take, no_ack=True)
        for number in range(2_000):
            body = CatchUpRequest("chat", "job", SeenUpTo(1, number)).encode()
            await ask(job.channel, stage, body, queue.name)
        async with late_follower(stage, REQUEST) as late:
            assert await late.asks()
            await late.answered()
        await job.unharmed()

    # 16 MB at once and 2 MB a second, of which each request takes 50 kB; some have two parts.
    most_bytes = 16_000_000 + 2_000_000 * (time.monotonic() - began)
    assert 0 < len(got) < 1.4 * most_bytes / 50_000


async def test_mail_that_nobody_understands_changes_nothing(stage: Stage) -> None:
    odd = (
        *(b"", b"{}", b"[]", b"\xff", b'{"catchUp":7}', b"[" * 4_000, b"x" * 70_000),
        json.dumps({"catchUp": {"chatId": "another"}}).encode(),
        json.dumps({"catchUp": {"chatId": "chat", "jobId": [SECRET]}}).encode(),
        json.dumps({"turn": "waiting", "chatId": "chat", "worker": "x", "jobs": []}).encode(),
    )
    async with running_job(stage) as job:
        queue = await job.channel.declare_queue(exclusive=True)
        for body in odd:
            await ask(job.channel, stage, body, queue.name)
            await ask(job.channel, stage, body, "")
        await job.unharmed()
        answers = await job.channel.declare_queue(queue.name, passive=True)

    assert answers.declaration_result.message_count == 0


async def test_worker_that_loses_its_publishing_connection_answers_after_it(stage: Stage) -> None:
    async with running_job(stage) as job, late_follower(stage, REQUEST) as late:
        publisher = job.worker.worker._process.publisher  # noqa: SLF001 - no public way to break it
        assert publisher is not None
        publisher.sender._channel._wire.abort()  # type: ignore[union-attr]  # noqa: SLF001
        while await late.asks() and not await late.is_answered():
            pass
        job.answer.ends = True
        await job.chats.end_of("job")

    assert late.parts
