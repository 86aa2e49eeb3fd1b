"""Ask all workers for their status over the exchange `pool`, and collect their reports.

Whoever may publish to the queue of the answers can forge one. What cannot be read is left out.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final, Self
from uuid import uuid4

from aio_pika import Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from aiormq.exceptions import AMQPError, ChannelAccessRefused, ChannelNotFoundEntity

from aimicromind_schemas import Names, NotAReport, StatusRequest, WorkerReport, decode_report
from aimicromind_schemas.messages.worker_report import WORKER_REPORT
from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.core.findings import NotAchieved

_TIMEOUT_S: Final = 30.0
_CONFIRMED_WITHIN_S: Final = 3.0
_MOST_REPORTS: Final = 10_000
# A worker that drains has no consumers, thus nobody expects its answer.
_FOR_THE_OTHERS_S: Final = 0.1


class CannotAsk(NotAchieved):
    """The workers cannot be asked."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the workers cannot be asked: {reason}")


class PoolAsker:
    """Asks the workers, one request after the other; `open` makes it."""

    def __init__(self, channel: AbstractChannel, queue: str, names: Names) -> None:
        self._channel = channel
        self._queue = queue
        self._names = names
        self._request = ""
        self._reports: dict[str, WorkerReport] = {}
        self._news = asyncio.Condition()

    @classmethod
    @asynccontextmanager
    async def open(cls, connection: BrokerConnection, names: Names) -> AsyncIterator[Self]:
        """Declare the queue of the answers for the body.

        Args:
            connection: A connection for this alone: a broker with an alarm reads nothing from
                connections that publish.
            names: The names of exchanges and queues.

        Raises:
            CannotAsk: The broker refuses it.
        """
        try:
            async with asyncio.timeout(_TIMEOUT_S):
                channel = await connection.channel()
                queue = await channel.declare_queue(exclusive=True)
                asker = cls(channel, queue.name, names)
                await queue.consume(asker._take, no_ack=True)
        except (AMQPError, RuntimeError, TimeoutError) as error:
            raise CannotAsk(_reason(error)) from error
        # The queue and the channel end with the connection.
        yield asker

    async def ask(
        self, within: timedelta, consumers: int, job_id: str | None = None
    ) -> Sequence[WorkerReport]:
        """Return the reports of all workers that answer, in the order of their hosts.

        Args:
            within: The longest wait for answers.
            consumers: The consumers of the queue of jobs: once the reports account for as many,
                the others have little time left.
            job_id: The reports tell whether the workers have this job.

        Raises:
            CannotAsk: The request cannot be published.
        """
        self._request = str(uuid4())
        self._reports = {}
        await self._publish(StatusRequest(job_id))
        try:
            async with asyncio.timeout(within.total_seconds()), self._news:
                await self._news.wait_for(lambda: 0 < consumers <= self._consumers())
            await asyncio.sleep(_FOR_THE_OTHERS_S)
        except TimeoutError:
            pass
        return sorted(self._reports.values(), key=lambda it: (it.host, it.pid, it.worker))

    async def _publish(self, request: StatusRequest) -> None:
        message = Message(
            request.encode(),
            content_type="application/json",
            reply_to=self._queue,
            correlation_id=self._request,
        )
        try:
            async with asyncio.timeout(_CONFIRMED_WITHIN_S):
                exchange = await self._channel.get_exchange(self._names.pool, ensure=False)
                await exchange.publish(message, "", mandatory=False)
        except (AMQPError, RuntimeError, TimeoutError) as error:
            raise CannotAsk(_reason(error)) from error

    def _consumers(self) -> int:
        return sum(report.consumers for report in self._reports.values())

    async def _take(self, message: AbstractIncomingMessage) -> None:
        if message.type != WORKER_REPORT or message.correlation_id != self._request:
            return
        try:
            report = decode_report(message.body)
        except NotAReport:
            return
        if len(self._reports) < _MOST_REPORTS:
            self._reports[report.worker] = report
        async with self._news:
            self._news.notify_all()


def _reason(error: BaseException) -> str:
    match error:
        case TimeoutError():
            return "the broker takes no message; it may have a memory or disk alarm"
        case ChannelNotFoundEntity():
            return "their exchange does not exist; has a worker of this version run?"
        case ChannelAccessRefused():
            return "the user lacks a permission (docs/operations.md, Permissions)"
        case _:
            return " ".join(str(error).split()) or type(error).__name__
