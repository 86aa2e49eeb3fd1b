"""Look jobs up in the journal stream, which holds what all workers did.

Invariants:

- One reading at a time, which answers all look-ups that were asked before it began. A look-up that
  is asked during a reading waits for the next one.
- A look-up sees every message that the broker confirmed before it was asked.
- What was read is kept across sessions. The next reading continues there, 1,000 messages earlier
  after a new connection.
- The history is whole only if the stream reaches back to the job's submission. Clocks may differ by
  15 minutes.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec
from aio_pika import Message
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import DeliveryError
from aiormq.abc import DeliveredMessage

from aimicromind_worker.amqp.republishing import Outgoing
from aimicromind_worker.amqp.stream_reader import (
    NothingThere,
    StreamSilent,
    StreamUnreadable,
    offset_of,
    read_one,
    read_up_to_now,
    time_of_first,
)
from aimicromind_worker.core.job.history import History, HistoryUnknown, read_milestone
from aimicromind_worker.core.job.open_run import OpenRun, OpenRuns, RunsKnown, read_open_run

# The clocks of producers and workers may differ by this much.
_CLOCK_SLACK = timedelta(minutes=15)
# 50,000 jobs take about 15 MB.
_JOBS_KEPT = 50_000
# A stream whose leader was killed may lose its last messages; others then get their offsets.
_READ_AGAIN = 1000
_EVER = datetime.min.replace(tzinfo=UTC)
# The longest lifetime that a setting allows: a job without a time of submission is no older.
_LONGEST_LIFETIME = timedelta(days=1)


class _Known(NamedTuple):
    history: History = History()
    last: datetime = _EVER
    end_offset: int | None = None


@dataclass(slots=True)
class JournalMemory:
    """The part of the journal that a process has read, over all its sessions.

    Attributes:
        read: The history, last time and offset of the `end` of each job, the oldest job first.
        read_from: The time since whose submissions all is read, None before the first reading.
        lost_before: The time of the oldest message left; None if the stream has removed none.
        next_offset: The offset at which the next reading begins.
        open_runs: The calls under a conversation's own chatId that may not be over.
        lock: The lock that a reading holds.
    """

    read: OrderedDict[str, _Known] = field(default_factory=OrderedDict)
    read_from: datetime | None = None
    lost_before: datetime | None = None
    next_offset: int = 0
    open_runs: OpenRuns = field(default_factory=OpenRuns)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def clear(self) -> None:
        """Forget all that was read."""
        self.read.clear()
        self.open_runs = OpenRuns()
        self.read_from = None


class _Reading(NamedTuple):
    """The result of one reading, which the next one does not change."""

    histories: dict[str, History]
    open_runs: OpenRuns


class Journal:
    """The journal of a session. Any number of tasks may look jobs up at a time.

    Each look-up raises `HistoryUnknown` if the broker does not deliver the journal now, and
    `StreamUnreadable` if there is no journal or the connection closed.
    """

    def __init__(
        self,
        connection: AbstractConnection,
        outgoing: Outgoing,
        stream: str,
        memory: JournalMemory,
        jobs_kept: int = _JOBS_KEPT,
    ) -> None:
        """Prepare to read.

        Args:
            connection: The connection to consume on, which never publishes.
            outgoing: The publisher of markers and records.
            stream: The name of the journal.
            memory: The part that earlier sessions have read.
            jobs_kept: The number of jobs whose history is kept.
        """
        self._connection = connection
        self._outgoing = outgoing
        self._stream = stream
        self._jobs_kept = jobs_kept
        self._asked: dict[str, datetime | None] = {}
        self._answers: asyncio.Future[_Reading] | None = None
        self._memory = memory
        memory.next_offset = max(0, memory.next_offset - _READ_AGAIN)

    async def look_up(self, job_id: str, since: datetime | None) -> History:
        """Return the history of a job.

        Args:
            job_id: The job.
            since: The time of its submission, aware; None if unknown.
        """
        return (await self._reading(job_id, since)).histories[job_id]

    async def open_runs(self, job_id: str, chat_id: str, since: datetime) -> RunsKnown:
        """Return the records that concern a job's calls under its conversation's own chatId."""
        # No job has this id: the look-up of the job itself may go further back.
        return (await self._reading(f"/{chat_id}", since)).open_runs.of(job_id, chat_id)

    async def note(self, run: OpenRun) -> None:
        """Write the record of a run, which all later look-ups see.

        Raises:
            StreamUnreadable: The broker did not confirm the record.
        """
        message = Message(
            run.encode(), content_type="application/json", timestamp=datetime.now(UTC)
        )
        try:
            await self._outgoing.publish(message, "", self._stream)
        except DeliveryError as error:
            raise StreamUnreadable(self._stream, "it takes no messages") from error

    async def end_of(self, job_id: str) -> bytes | None:
        """Return the body of the `end` that a look-up found; None if it was removed since."""
        known = self._memory.read.get(job_id)
        if known is None or known.end_offset is None:
            return None
        with _unknown():
            # One reading at a time: each takes a channel, and some brokers allow few.
            async with self._memory.lock:
                return await read_one(self._connection, self._stream, known.end_offset)

    async def _reading(self, job_id: str, since: datetime | None) -> _Reading:
        self._asked[job_id] = since
        if self._answers is None:
            self._answers = asyncio.ensure_future(self._read_for_all())
            # All that asked may be cancelled before it fails.
            self._answers.add_done_callback(lambda done: done.cancelled() or done.exception())
        with _unknown():
            return await asyncio.shield(self._answers)

    async def _read_for_all(self) -> _Reading:
        async with self._memory.lock:
            # Look-ups that are asked from now on need a reading that begins later.
            asked, self._asked, self._answers = self._asked, {}, None
            await self._read_on(_begin(asked))
            answers = {job_id: self._answer(job_id, since) for job_id, since in asked.items()}
            self._forget()
            return _Reading(answers, self._memory.open_runs.copy())

    def _answer(self, job_id: str, since: datetime | None) -> History:
        lost_before = self._memory.lost_before
        submitted = since or datetime.now(UTC) - _LONGEST_LIFETIME
        is_whole = lost_before is None or _begin({job_id: submitted}) >= lost_before
        known = self._memory.read.get(job_id, _Known())
        return msgspec.structs.replace(known.history, is_whole=is_whole)

    async def _read_on(self, begin: datetime) -> None:
        """Read what is new, or everything since `begin` if that is earlier than `read_from`."""
        memory = self._memory
        if memory.read_from is not None and begin >= memory.read_from:
            with suppress(NothingThere):
                await self._read_from(memory.next_offset)
                return
            # The stream was deleted and declared again: the offset is of the old one.
        memory.clear()
        try:
            await self._read_from(begin)
        except NothingThere:
            begin = _EVER
            await self._read_from(begin)
        memory.lost_before = await time_of_first(self._connection, self._stream)
        memory.read_from = begin

    async def _read_from(self, since: datetime | int) -> None:
        self._memory.next_offset = await read_up_to_now(
            self._connection, self._outgoing, self._stream, since, self._take
        )

    def _take(self, message: DeliveredMessage) -> None:
        milestone = read_milestone(message.body)
        if milestone is None:
            run = read_open_run(message.body)
            if run is not None:
                self._memory.open_runs.take(run)
        else:
            known = self._memory.read.get(milestone.job_id, _Known())
            history, end_offset = known.history.after(milestone), known.end_offset
            if history.status is not None and end_offset is None:
                end_offset = offset_of(message)
            self._memory.read[milestone.job_id] = _Known(history, milestone.time, end_offset)

    def _forget(self) -> None:
        self._memory.open_runs.forget(datetime.now(UTC) - _LONGEST_LIFETIME)
        memory = self._memory
        while len(memory.read) > self._jobs_kept:
            _, known = memory.read.popitem(last=False)
            # A look-up of a job of that time needs another reading.
            memory.read_from = max(memory.read_from or known.last, known.last)


@contextmanager
def _unknown() -> Iterator[None]:
    """Turn a silent journal into `HistoryUnknown`; a missing one stays `StreamUnreadable`."""
    try:
        yield
    except StreamSilent as error:
        raise HistoryUnknown(str(error)) from error


def _begin(asked: Mapping[str, datetime | None]) -> datetime:
    since = [moment for moment in asked.values() if moment is not None]
    if len(since) < len(asked):
        return _EVER
    # A time in the future, of a clock that is ahead, counts as now.
    return max(_EVER + _CLOCK_SLACK, min(*since, datetime.now(UTC))) - _CLOCK_SLACK
