"""The pool's memory of jobs: what all workers recorded, and the `end` of each job.

Invariants:

- A look-up sees every message that the broker confirmed before it was asked.
- What was read is kept across sessions. The next one continues there.
- The history is whole only if the stream reaches back to the job's submission. Clocks may differ by
  15 minutes.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Never

import structlog
from aio_pika import Message
from aio_pika.exceptions import DeliveryError

from aimicromind_schemas import Names
from aimicromind_schemas.client.streams.endings import Endings
from aimicromind_schemas.client.streams.journal_follower import JournalFollower, JournalState
from aimicromind_schemas.client.streams.journal_search import LONGEST_LIFETIME
from aimicromind_schemas.client.streams.reader import StreamSilent, StreamUnreadable
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.journal.history import History, HistoryUnknown, StoredEnd
from aimicromind_worker.amqp.republishing import Outgoing
from aimicromind_worker.core.job.open_run import OpenRun, OpenRuns, RunsKnown, read_open_run

log = structlog.get_logger()


@dataclass(slots=True)
class JournalMemory:
    """The part of the journal that a process has read, over all its sessions.

    Attributes:
        state: What is known of jobs.
        open_runs: The calls under a conversation's own chatId that may not be over.
    """

    state: JournalState = field(default_factory=JournalState)
    open_runs: OpenRuns = field(default_factory=OpenRuns)


class Journal:
    """The journal of a session. Any number of tasks may look jobs up at a time.

    Each look-up raises `HistoryUnknown` if the broker does not deliver the journal now, and
    `StreamUnreadable` if there is no journal or the connection closed.
    """

    def __init__(
        self,
        connection: GuardedConnection,
        outgoing: Outgoing,
        names: Names,
        memory: JournalMemory,
        lifetime: timedelta,
    ) -> None:
        """Prepare to read.

        Args:
            connection: The connection to consume on, which never publishes.
            outgoing: The publisher of markers and records.
            names: The names of the journal and the endings.
            memory: The part that earlier sessions have read.
            lifetime: The longest life of a job.
        """
        self._outgoing = outgoing
        self._names = names
        self._memory = memory
        self._follower = JournalFollower(
            connection,
            outgoing.publish,
            names.journal,
            memory.state,
            lifetime,
            self._take_open_run,
        )
        self._follower.on_live = self._note_live
        lock = self._follower.search.lock
        self._endings = Endings(connection, outgoing.publish, names.endings, lock)

    @property
    def is_live(self) -> bool:
        """Whether what was recorded before has been read, so that look-ups read nothing."""
        return self._follower.is_live

    async def until_live(self) -> None:
        """Wait until what was recorded before has been read.

        Raises:
            HistoryUnknown: It has not, within 30 s.
        """
        await self._follower.until_live()

    async def run(self) -> Never:
        """Read the journal until the connection is lost.

        Raises:
            StreamUnreadable: There is no journal, or the connection closed.
        """
        await self._follower.run()

    async def look_up(self, job_id: str, since: datetime | None) -> History:
        """Return the history of a job.

        Args:
            job_id: The job.
            since: The time of its submission, aware; None if unknown.
        """
        return await self._follower.look_up(job_id, since)

    def recall(self, job_id: str) -> History | None:
        """Return what was read of a job by now; None if nothing was."""
        return self._memory.state.jobs.history(job_id)

    def when_behind(self, note: Callable[[str, str], None]) -> None:
        """Set the callback for jobs that end from now on, or wait after a failure of their own.

        Args:
            note: It gets the ids of the job and of its chat.
        """
        self._follower.on_behind = note

    def is_behind(self, job_id: str) -> bool:
        """Return whether a job has ended, or waits after a failure of its own, as is known now."""
        known = self._memory.state.jobs.history(job_id)
        return known is not None and (known.status is not None or known.is_delayed)

    async def open_runs(self, job_id: str, chat_id: str) -> RunsKnown:
        """Return the records that concern a job's calls under its conversation's own chatId."""
        await self._follower.until_live()
        with _unknown():
            await self._follower.passed_now()
        self._memory.open_runs.forget(datetime.now(UTC) - LONGEST_LIFETIME)
        return self._memory.open_runs.of(job_id, chat_id)

    async def note(self, run: OpenRun) -> None:
        """Write the record of a run, which all later look-ups see.

        Raises:
            StreamUnreadable: The broker did not confirm the record.
        """
        message = Message(
            run.encode(), content_type="application/json", timestamp=datetime.now(UTC)
        )
        try:
            await self._outgoing.publish(message, "", self._names.journal)
        except DeliveryError as error:
            raise StreamUnreadable(self._names.journal, "it takes no messages") from error

    async def look_up_unended(self, job_id: str, since: datetime | None) -> History:
        """Return the history of a job of which no `end` was published, whatever is recorded.

        This always reads the journal: of jobs that have ended, little is kept in memory.

        Args:
            job_id: The job.
            since: The time of its submission, aware; None if unknown.
        """
        with _unknown():
            return (await self._follower.search.look_up(job_id, since)).unended

    async def end_of(self, job_id: str, ended_at: datetime | None) -> StoredEnd:
        """Return the `end` that was published of a job.

        Args:
            job_id: The job.
            ended_at: The time of its record in the journal, aware; None if unknown.
        """
        with _unknown():
            return await self._endings.end_of(job_id, ended_at)

    def _note_live(self) -> None:
        jobs = self._memory.state.jobs
        log.info("journal.caught_up", ended=len(jobs.ended), open=jobs.open)

    def _take_open_run(self, body: bytes) -> None:
        run = read_open_run(body)
        if run is not None:
            self._memory.open_runs.take(run)


@contextmanager
def _unknown() -> Iterator[None]:
    """Turn a silent stream into `HistoryUnknown`; a missing one stays `StreamUnreadable`."""
    try:
        yield
    except StreamSilent as error:
        raise HistoryUnknown(str(error)) from error
