"""The journal stream → what the pool knows of a job; one reading serves all who ask meanwhile."""

import asyncio
from datetime import UTC, datetime, timedelta

from aio_pika.abc import AbstractConnection
from aiormq.abc import DeliveredMessage

from aimicromind_schemas import NotAnEvent, decode
from aimicromind_worker.adapters.outgoing import Outgoing
from aimicromind_worker.adapters.stream_reading import read_up_to_now
from aimicromind_worker.core.history import History

# Producers' and workers' clocks may differ by that much.
_CLOCK_SLACK = timedelta(minutes=15)


class Journal:
    """Looks jobs up. One for a session; any number of questions at once."""

    def __init__(self, connection: AbstractConnection, outgoing: Outgoing, stream: str) -> None:
        """Prepare.

        Args:
            connection: Where to read; it never publishes.
            outgoing: Where the markers go out.
            stream: The journal's name.
        """
        self._connection = connection
        self._outgoing = outgoing
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
            StreamUnreadable: The broker did not show the journal.
        """
        self._asked[job_id] = since
        if self._answers is None:
            self._answers = asyncio.ensure_future(self._read_for_all())
            # Whoever asked may be gone when it fails.
            self._answers.add_done_callback(lambda done: done.cancelled() or done.exception())
        return (await asyncio.shield(self._answers)).get(job_id, History())

    async def _read_for_all(self) -> dict[str, History]:
        async with self._turn:
            # Whoever asks from now on needs a reading that begins later.
            asked, self._asked, self._answers = self._asked, {}, None
            histories = dict.fromkeys(asked, History())

            def take(message: DeliveredMessage) -> None:
                _take(histories, message)

            await read_up_to_now(
                self._connection, self._outgoing, self._stream, _begin(asked), take
            )
            return histories


def _begin(asked: dict[str, datetime | None]) -> datetime | None:
    since = [moment for moment in asked.values() if moment is not None]
    if len(since) < len(asked):
        return None
    # A clock that is ahead of ours is taken back to now.
    return min(*since, datetime.now(UTC)) - _CLOCK_SLACK


def _take(histories: dict[str, History], message: DeliveredMessage) -> None:
    # The id begins with the job's: most messages need not be decoded.
    job_id = (message.header.properties.message_id or "").partition(":")[0]
    if job_id not in histories:
        return
    try:
        histories[job_id] = histories[job_id].after(decode(message.body))
    except NotAnEvent:
        return
