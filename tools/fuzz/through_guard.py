"""Send odd messages over a real broker to a worker and a client, with regular jobs between them.

Required: no process, session or connection ends, no regular job needs a second attempt, and memory
is bounded.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pika
from pika.exceptions import AMQPError

from aimicromind_schemas import EndEvent, Event, Names, PredictionJob
from aimicromind_schemas.client import Client
from aimicromind_testing import PrivateBroker, answer
from aimicromind_worker.amqp.connection import connect
from aimicromind_worker.amqp.inspection.dead_letters import DeadLetterQueue, dead_letters
from tests.process.stage import Stage, set_up
from tests.support.amqp import connections_of
from tests.support.processes import WorkerProcess
from tools.fuzz.odd_messages import odd_message

_BATCH = 1_000
# Messages on one connection, which the broker closes if it refuses one of them.
_TOGETHER = 250
_BATCH_WITHIN_S = 120.0
_PRINT_EVERY = 50_000
# A new worker reads all cancel requests before it is ready: 180,000 after a run of 500,000.
_LATE_WITHIN_S = 600.0
_DEAD_LOOKED_AT = 500
_MOST_WORKER_MB = 400
_PATIENCE = timedelta(seconds=30)


# Without the connection for copies, which an invalid `reply_to` may close.
_KEPT = ("aimicromind-worker jobs", "aimicromind-worker events", "aimicromind client")


@dataclass
class Fuzzed:
    """Figures of a run.

    Attributes:
        wrong: One line for each violation.
        sent: Messages by destination.
        refused: Connections of the publisher that the broker closed.
        regular: Regular jobs that completed with one attempt.
        dead_read: Dead letters that were read at the end.
        begin_mb: Most memory of the worker before the first message.
        largest_mb: Most memory of the worker in the run.
        connections: Number of connections of worker and client.
    """

    wrong: list[str] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)
    refused: int = 0
    regular: int = 0
    dead_read: int = 0
    begin_mb: float = 0.0
    largest_mb: float = 0.0
    connections: int = 0

    def show(self) -> None:
        print(f"  {sum(self.sent.values())} messages: {dict(self.sent.most_common())}")
        print(f"  {self.refused} connections of the publisher that the broker closed")
        print(f"  {self.regular} regular jobs with one attempt, {self.dead_read} dead letters read")
        print(f"  {self.connections} connections, the same from begin to end")
        print(
            f"  most memory of the worker: {self.begin_mb:.0f} MB at first, {self.largest_mb:.0f}"
        )
        print(f"  {len(self.wrong)} violations", *self.wrong[:20], sep="\n  ", flush=True)


async def through_guard(broker: PrivateBroker, folder: Path, seed: int, count: int) -> Fuzzed:
    """Send `count` odd messages, and return the figures."""
    found = Fuzzed()
    async with AsyncExitStack() as opened:
        stage = await opened.enter_async_context(
            set_up(broker, Names(f"fuzz-messages-{seed}"), folder, quiet=True)
        )
        worker = await stage.ready_worker(CONCURRENCY=16)
        client = await opened.enter_async_context(
            Client.open(broker.url, stage.names.prefix, _PATIENCE)
        )
        ends: dict[str, set[str]] = {"shared": set(), "private": set()}
        shared = client.shared(f"{stage.names.prefix}.shared", "chat.#")
        readers = [
            asyncio.create_task(_read(shared, ends["shared"])),
            asyncio.create_task(_read(client.private("chat.#"), ends["private"])),
        ]
        opened.push_async_callback(_cancelled, readers)
        await _one_innocent(stage, client, found, ends)
        before = await connections_of(broker, *_KEPT)
        found.connections, found.begin_mb = len(before), worker.largest_mb
        for first in range(0, count, _BATCH):
            for begin in range(first, min(first + _BATCH, count), _TOGETHER):
                some = range(begin, min(begin + _TOGETHER, count))
                await asyncio.to_thread(_publish, stage, seed, some, found)
            await _one_innocent(stage, client, found, ends)
            await asyncio.to_thread(_purge, stage)
            if first % _PRINT_EVERY == 0:
                print(f"  {first + _BATCH}: the worker used {worker.largest_mb:.0f} MB", flush=True)
            if found.wrong:
                break
        if await connections_of(broker, *_KEPT) != before:
            found.wrong.append("connections ended")
        found.wrong += [f"a reader ended: {it.exception()!r}" for it in readers if it.done()]
        await _check_at_the_end(stage, worker, found)
    return found


async def _read(reading: AbstractAsyncContextManager[AsyncIterator[Event]], ends: set[str]) -> None:
    async with reading as events:
        async for event in events:
            if isinstance(event, EndEvent):
                ends.add(event.job_id)


async def _cancelled(readers: list[asyncio.Task[None]]) -> None:
    for reader in readers:
        reader.cancel()
    await asyncio.wait(readers)


async def _one_innocent(
    stage: Stage, client: Client, found: Fuzzed, ends: dict[str, set[str]]
) -> None:
    stage.endpoint.flow("flow", answer(3))
    job_id = f"regular-{found.regular}"
    job = PredictionJob(chatflow_id="flow", question="Why?", job_id=job_id, chat_id=job_id)
    try:
        async with asyncio.timeout(_BATCH_WITHIN_S), client.request(job) as items:
            end = [item async for item in items][-1]
        async with asyncio.timeout(_BATCH_WITHIN_S):
            while not all(job_id in seen for seen in ends.values()):  # noqa: ASYNC110 - two lists
                await asyncio.sleep(0.02)
    except TimeoutError:
        found.wrong.append(f"{job_id} did not end, or did not reach all readers")
        return
    if not isinstance(end, EndEvent) or (end.data.status, end.data.attempts) != ("completed", 1):
        found.wrong.append(f"{job_id} ended otherwise: {end!r}")
    found.regular += 1


def _publish(stage: Stage, seed: int, numbers: range, found: Fuzzed) -> None:
    try:
        with pika.BlockingConnection(pika.URLParameters(stage.broker.url)) as connection:
            channel = connection.channel()
            for number in numbers:
                place, message = odd_message(seed, number, stage.names)
                channel.basic_publish(
                    message.exchange, message.key, message.body, message.properties
                )
                found.sent[place] += 1
            channel.queue_declare(stage.names.jobs, passive=True)
    except AMQPError:
        found.refused += 1


def _purge(stage: Stage) -> None:
    """Delete dead letters once there are many, to bound the broker's memory."""
    with pika.BlockingConnection(pika.URLParameters(stage.broker.url)) as connection:
        channel = connection.channel()
        dead = channel.queue_declare(stage.names.jobs_dead, passive=True).method.message_count
        if dead > 2 * _DEAD_LOOKED_AT:
            channel.queue_purge(stage.names.jobs_dead)


async def _check_at_the_end(stage: Stage, worker: WorkerProcess, found: Fuzzed) -> None:
    found.wrong += [f"the worker logged an error: {it}" for it in worker.log(level="error")]
    found.wrong += [f"the session was lost: {line}" for line in worker.log("broker.lost")]
    if not worker.runs:
        found.wrong.append("the worker has ended")
        return
    found.largest_mb = worker.largest_mb
    if found.largest_mb > _MOST_WORKER_MB:
        found.wrong.append(f"the worker used {found.largest_mb:.0f} MB of memory")
    # A worker that starts reads the messages in the streams.
    late = await stage.workers.start()
    await late.logged("worker.ready", within_s=_LATE_WITHIN_S)
    async with (
        connect([stage.broker.url], "fuzz", _PATIENCE) as connection,
        dead_letters(connection, DeadLetterQueue(stage.names)) as letters,
    ):
        async for each in letters:
            found.dead_read += bool(each.dead.kind)
    await stage.stop_workers()
