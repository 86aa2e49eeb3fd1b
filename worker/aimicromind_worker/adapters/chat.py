"""The two ends of a chat, as the command line needs them: put a job in, take its events out."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import AMQPError, ChannelNotFoundEntity, DeliveryError

from aimicromind_schemas import SUBMITTED_HEADER, Event, Names, NotAnEvent, PredictionJob, decode
from aimicromind_worker.reasons import NotAchieved

_TIMEOUT_S = 10.0


class NothingToListenTo(NotAchieved):
    """There is no exchange that events come by."""

    def __init__(self, exchange: str) -> None:
        super().__init__(f"there is no exchange {exchange}; is a worker running?")


class JobNotTaken(NotAchieved):
    """The broker did not take the job."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the job was not taken: {reason}")


async def submit(channel: AbstractChannel, names: Names, job: PredictionJob) -> None:
    """Put a job on the queue; it is safe there once this returns.

    Raises:
        JobNotTaken: There is no queue, or it is full.
    """
    now = datetime.now(UTC)
    message = aio_pika.Message(
        job.encode(),
        headers={SUBMITTED_HEADER: now.isoformat(timespec="microseconds")},
        content_type="application/json",
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=job.job_id,
        timestamp=now,
    )
    exchange = channel.default_exchange
    try:
        answered = await exchange.publish(message, names.jobs, mandatory=True, timeout=_TIMEOUT_S)
    except DeliveryError as error:
        raise JobNotTaken(f"the queue {names.jobs} is full") from error
    except (AMQPError, TimeoutError) as error:
        raise JobNotTaken(f"the broker did not confirm it ({type(error).__name__})") from error
    if isinstance(answered, DeliveredMessage):
        raise JobNotTaken(f"there is no queue {names.jobs}; is a worker running?")


@asynccontextmanager
async def listen(
    connection: AbstractConnection, names: Names, binding: str
) -> AsyncIterator[AsyncIterator[Event]]:
    """Listen to the events of a binding; what is published from now on is not missed.

    Args:
        connection: A connection to the broker.
        names: The topology's names.
        binding: A binding key of the events exchange, such as `chat.<chatId>.#`.

    Raises:
        NothingToListenTo: No worker and no command has declared the topology.
    """
    arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    async with connection.channel() as channel:
        queue = await channel.declare_queue(exclusive=True, timeout=_TIMEOUT_S)
        try:
            await queue.bind(names.events, binding, timeout=_TIMEOUT_S)
        except ChannelNotFoundEntity as error:
            raise NothingToListenTo(names.events) from error
        await queue.consume(arrived.put, no_ack=True, timeout=_TIMEOUT_S)
        yield _decoded(arrived)


async def _decoded(arrived: asyncio.Queue[AbstractIncomingMessage]) -> AsyncIterator[Event]:
    while True:
        message = await arrived.get()
        try:
            yield decode(message.body)
        except NotAnEvent:
            continue
