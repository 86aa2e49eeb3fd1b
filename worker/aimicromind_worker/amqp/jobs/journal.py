"""The journal stream → what the pool knows of a job; one reading serves all who ask meanwhile.

What was read is kept, so that the next reading goes on from there.
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

# Producers' and workers' clocks may differ by that much.
_CLOCK_SLACK = timedelta(minutes=15)
# About 15 MB.
_JOBS_KEPT = 50_000
# A stream whose leader was killed may have lost its last messages; others then take their place.
_READ_AGAIN = 1000
_EVER = datetime.min.replace(tzinfo=UTC)
# The longest that a setting allows: a job that does not say when it was submitted is no older.
_LONGEST_LIFETIME = timedelta(days=1)


class _Known(NamedTuple):
    history: History = History()
    last: datetime = _EVER
    end_offset: int | None = None


@dataclass(slots=True)
class JournalMemory:
    """What a process has read of the journal, over all its sessions.

    Attributes:
        read: What is known of each job, when it last said something, and where its end is;
            the oldest job first.
        read_from: Of jobs put on the queue since then all is known, None before any reading.
        lost_before: What was said before may have been removed before anybody read it; None where
            nothing was.
        next_offset: Where the next reading goes on.
        open_runs: Calls under a conversation's own chatId that may not be over.
        turn: Held by whoever reads.
    """

    read: OrderedDict[str, _Known] = field(default_factory=OrderedDict)
    read_from: datetime | None = None
    lost_before: datetime | None = None
    next_offset: int = 0
    open_runs: OpenRuns = field(default_factory=OpenRuns)
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    def clear(self) -> None:
        """Begin anew."""
        self.read.clear()
        self.open_runs = OpenRuns()
        self.read_from = None


class _Reading(NamedTuple):
    """What one reading found, which the next one does not change."""

    histories: dict[str, History]
    open_runs: OpenRuns


class Journal:
    """Looks jobs up. One for a session; any number of questions at once."""

    def __init__(
        self,
        connection: AbstractConnection,
        outgoing: Outgoing,
        stream: str,
        memory: JournalMemory,
        jobs_kept: int = _JOBS_KEPT,
    ) -> None:
        """Prepare.

        Args:
            connection: Where to read; it never publishes.
            outgoing: Where the markers go out.
            stream: The journal's name.
            memory: What earlier sessions have read.
            jobs_kept: Of how many jobs what was read is kept.
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
        """Return what is known of a job.

        Args:
            job_id: The job.
            since: When it was put on the queue, None where nobody knows.

        Raises:
            HistoryUnknown: The broker does not show the journal now.
            StreamUnreadable: There is no journal, or the connection closed.
        """
        return (await self._reading(job_id, since)).histories[job_id]

    async def open_runs(self, job_id: str, chat_id: str, since: datetime) -> RunsKnown:
        """Return what is known to a job of the calls under its conversation's own chatId.

        Raises:
            HistoryUnknown: The broker does not show the journal now.
            StreamUnreadable: There is no journal, or the connection closed.
        """
        # A name that no job has: the job's own question may go further back.
        return (await self._reading(f"/{chat_id}", since)).open_runs.of(job_id, chat_id)

    async def note(self, run: OpenRun) -> None:
        """Add what is known of a run, for whoever asks from now on.

        Raises:
            StreamUnreadable: The broker does not take it.
        """
        message = Message(
            run.encode(), content_type="application/json", timestamp=datetime.now(UTC)
        )
        try:
            await self._outgoing.publish(message, "", self._stream)
        except DeliveryError as error:
            raise StreamUnreadable(self._stream, "it takes no messages") from error

    async def end_of(self, job_id: str) -> bytes | None:
        """Return the body of a job's end that a look-up has found; None if it is there no more.

        Raises:
            HistoryUnknown: The broker does not show the journal now.
            StreamUnreadable: There is no journal, or the connection closed.
        """
        known = self._memory.read.get(job_id)
        if known is None or known.end_offset is None:
            return None
        with _unknown():
            # One reading at a time: each takes a channel, and some brokers give few.
            async with self._memory.turn:
                return await read_one(self._connection, self._stream, known.end_offset)

    async def _reading(self, job_id: str, since: datetime | None) -> _Reading:
        self._asked[job_id] = since
        if self._answers is None:
            self._answers = asyncio.ensure_future(self._read_for_all())
            # Whoever asked may be gone when it fails.
            self._answers.add_done_callback(lambda done: done.cancelled() or done.exception())
        with _unknown():
            return await asyncio.shield(self._answers)

    async def _read_for_all(self) -> _Reading:
        async with self._memory.turn:
            # Whoever asks from now on needs a reading that begins later.
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
        """Read what is new, or all since that time if it is earlier than what was read."""
        memory = self._memory
        if memory.read_from is not None and begin >= memory.read_from:
            with suppress(NothingThere):
                await self._read_from(memory.next_offset)
                return
            # It is another stream of that name.
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
            # Whoever asks for a job of that time needs another reading.
            memory.read_from = max(memory.read_from or known.last, known.last)


@contextmanager
def _unknown() -> Iterator[None]:
    """Turn a silent journal into `HistoryUnknown`; a missing one stays an error."""
    try:
        yield
    except StreamSilent as error:
        raise HistoryUnknown(str(error)) from error


def _begin(asked: Mapping[str, datetime | None]) -> datetime:
    since = [moment for moment in asked.values() if moment is not None]
    if len(since) < len(asked):
        return _EVER
    # A clock that is ahead of ours is taken back to now.
    return max(_EVER + _CLOCK_SLACK, min(*since, datetime.now(UTC))) - _CLOCK_SLACK
