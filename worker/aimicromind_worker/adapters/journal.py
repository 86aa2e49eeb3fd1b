"""The journal stream → what the pool remembers of a job; one reading serves all who ask meanwhile.

A stream has no end that AMQP would tell, so each reading writes a marker and reads up to it.
"""

import asyncio
from datetime import datetime, timedelta
from uuid import uuid4

import aio_pika
from aio_pika.abc import AbstractConnection, AbstractIncomingMessage
from aiormq.exceptions import AMQPError

from aimicromind_schemas import NotAnEvent, decode
from aimicromind_worker.core.history import History

_DEADLINE_S = 30.0
_PREFETCH = 500
_MARKER = "x-aimicromind-marker"
# Producers' and workers' clocks may differ by that much.
_CLOCK_SLACK = timedelta(minutes=15)


class JournalUnreadable(ConnectionError):
    """The journal could not be read to its end in time."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the journal could not be read: {reason}")


class Journal:
    """Looks jobs up. One for a session; any number of questions at once."""

    def __init__(self, connection: AbstractConnection, stream: str) -> None:
        self._connection = connection
        self._stream = stream
        self._asked: dict[str, datetime | None] = {}
        self._answers: asyncio.Future[dict[str, History]] | None = None
        self._turn = asyncio.Lock()

    async def look_up(self, job_id: str, since: datetime | None) -> History:
        """Say what is known of a job.

        Args:
            job_id: The job.
            since: When it was put on the queue, None where nobody knows.

        Raises:
            JournalUnreadable: The broker did not show the journal in time.
        """
        self._asked[job_id] = since
        if self._answers is None:
            self._answers = asyncio.ensure_future(self._read_for_all())
        return (await asyncio.shield(self._answers)).get(job_id, History())

    async def _read_for_all(self) -> dict[str, History]:
        async with self._turn:
            # Whoever asks from now on needs a reading that begins later.
            asked, self._asked, self._answers = self._asked, {}, None
            try:
                async with asyncio.timeout(_DEADLINE_S):
                    return await self._read(asked)
            except (AMQPError, TimeoutError) as error:
                raise JournalUnreadable(str(error) or type(error).__name__) from error

    async def _read(self, asked: dict[str, datetime | None]) -> dict[str, History]:
        histories = dict.fromkeys(asked, History())
        arrived: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        marker = str(uuid4())
        async with self._connection.channel() as channel:
            await channel.set_qos(prefetch_count=_PREFETCH)
            await channel.default_exchange.publish(
                aio_pika.Message(b"", message_id=marker, headers={_MARKER: True}), self._stream
            )
            queue = await channel.get_queue(self._stream, ensure=False)
            await queue.consume(arrived.put, arguments={"x-stream-offset": _offset(asked)})
            read = 0
            while True:
                message = await arrived.get()
                read += 1
                if read % (_PREFETCH // 2) == 0:
                    await message.ack(multiple=True)
                if message.message_id == marker:
                    return histories
                _take(histories, message)


def _offset(asked: dict[str, datetime | None]) -> datetime | str:
    since = [moment for moment in asked.values() if moment is not None]
    return min(since) - _CLOCK_SLACK if len(since) == len(asked) else "first"


def _take(histories: dict[str, History], message: AbstractIncomingMessage) -> None:
    # The id begins with the job's: most messages need not be decoded.
    job_id = (message.message_id or "").partition(":")[0]
    if job_id not in histories:
        return
    try:
        histories[job_id] = histories[job_id].after(decode(message.body))
    except NotAnEvent:
        return
