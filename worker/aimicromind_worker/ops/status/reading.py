"""Read the status of an installation from its workers, its broker and the management API.

Two connections are used: one asks the workers, and one only reads. While the broker has an alarm,
it reads nothing from the first one. No job is taken.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final, Self, TypeVar
from urllib.parse import unquote, urlsplit

from aiormq.exceptions import ChannelAccessRefused

from aimicromind_schemas import Names, WorkerReport
from aimicromind_schemas.client.errors import NoSuchQueue
from aimicromind_schemas.client.streams.probes import first_kept
from aimicromind_schemas.client.streams.reader import StreamUnreadable
from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.amqp.inspection.asking import CannotAsk, PoolAsker
from aimicromind_worker.amqp.inspection.counting import QueueCounts, counts_of, dead_by_kind
from aimicromind_worker.app.broker import broker_connection
from aimicromind_worker.app.broker_settings import BrokerSettings
from aimicromind_worker.core.findings import NotAchieved
from aimicromind_worker.core.job.retry import RETRY_DELAYS
from aimicromind_worker.ops.management import Management, ManagementSilent
from aimicromind_worker.ops.status.facts import (
    BrokerTold,
    DeadLetters,
    Reach,
    Status,
    jobs_of,
    reach_of,
    silent_consumers,
    throughput_of,
)

_CONNECTION: Final = "aimicromind-worker status"
_ANSWERED_WITHIN: Final = timedelta(seconds=2)
_NOBODY_WITHIN: Final = timedelta(seconds=0.5)
_BETWEEN_READINGS_S: Final = 1.0
_FIRST_WITHIN_S: Final = 2.0
# Each look at a dead letter counts, and hides it from others for a moment.
_OLD_S: Final = 30.0
_CHANNELS: Final = 4

Result = TypeVar("Result")


class NoJobQueue(NotAchieved):
    """There is no queue of jobs."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is no queue {name} on the broker; has a worker run, with this prefix? "
            "Start one with `aimicromind-worker run`"
        )


class StatusReader:
    """Reads the status again and again; `open` makes it."""

    def __init__(
        self, settings: BrokerSettings, connection: BrokerConnection, asker: PoolAsker | CannotAsk
    ) -> None:
        self._settings = settings
        self._names = Names(settings.prefix)
        self._connection = connection
        self._asker = asker
        self._channels = asyncio.Semaphore(_CHANNELS)
        self._reports: Sequence[WorkerReport] = ()
        self._asked_s = -_BETWEEN_READINGS_S
        self._dead: tuple[float, DeadLetters] | None = None
        self._reaches: tuple[float, tuple[Reach | None, Reach | None]] | None = None
        self._unknown: dict[str, None] = {}
        self._unread: list[str] = []

    @classmethod
    @asynccontextmanager
    async def open(cls, settings: BrokerSettings) -> AsyncIterator[Self]:
        """Connect for the body.

        Raises:
            BrokerUnreachable, BrokerRefused, BrokerTlsRefused: See `connect`.
        """
        async with AsyncExitStack() as opened:
            connection = await opened.enter_async_context(broker_connection(settings, _CONNECTION))
            asking = await opened.enter_async_context(broker_connection(settings, _CONNECTION))
            asker: PoolAsker | CannotAsk
            try:
                names = Names(settings.prefix)
                asker = await opened.enter_async_context(PoolAsker.open(asking, names))
            except CannotAsk as error:
                asker = error
            yield cls(settings, connection, asker)

    @property
    def unknown(self) -> Sequence[str]:
        """What the last reading could not find out, as sentences."""
        return tuple(self._unknown)

    async def read(self) -> Status:
        """Return the present status. The first time takes more than a second.

        Raises:
            NoJobQueue: There is no queue of jobs.
            BrokerLost, TimeoutError: The broker no longer answers.
        """
        self._unknown = {}
        silent = []
        if not self._reports:
            counts, self._reports = await self.ask()
            silent.append(silent_consumers(self._reports, counts.consumers))
        before = self._reports
        delayed, reaped, dead, (event_log, journal), broker = await asyncio.gather(
            self._delayed(),
            self._ready_in(self._names.jobs_reaped),
            self._dead_letters(),
            self._all_reaches(),
            self._broker(),
        )
        await asyncio.sleep(self._asked_s + _BETWEEN_READINGS_S - monotonic())
        counts, self._reports = await self.ask()
        silent.append(silent_consumers(self._reports, counts.consumers))
        return Status(
            time=datetime.now(UTC),
            workers=self._reports,
            consumers=counts.consumers,
            # A consumer may have come between the two numbers of one reading.
            silent_consumers=min(silent),
            jobs=jobs_of(self._reports, counts.ready, delayed, reaped),
            dead_letters=dead,
            event_log=event_log,
            journal=journal,
            throughput=throughput_of(before, self._reports),
            broker=broker,
            unknown=self.unknown,
        )

    async def ask(
        self, within: timedelta = _ANSWERED_WITHIN, job_id: str | None = None
    ) -> tuple[QueueCounts, Sequence[WorkerReport]]:
        """Return the numbers of the queue of jobs, and the reports of the workers that answer.

        Args:
            within: The longest wait for the reports.
            job_id: The reports tell whether the workers have this job.

        Raises:
            NoJobQueue: There is no such queue.
        """
        counts = await self._limited(counts_of(self._connection, self._names.jobs))
        if counts is None:
            raise NoJobQueue(self._names.jobs)
        self._asked_s = monotonic()
        try:
            if isinstance(self._asker, CannotAsk):
                raise self._asker
            within = within if counts.consumers else min(within, _NOBODY_WITHIN)
            return counts, await self._asker.ask(within, counts.consumers, job_id)
        except CannotAsk as error:
            self._unknown[str(error)] = None
            return counts, ()

    async def _limited(self, reading: Awaitable[Result]) -> Result:
        """Read with few channels at a time: a broker may allow no more."""
        async with self._channels:
            return await reading

    async def _ready_in(self, queue: str) -> int:
        counts = await self._limited(counts_of(self._connection, queue))
        return 0 if counts is None else counts.ready

    async def _delayed(self) -> dict[int, int]:
        queues = [self._names.jobs_delay(delay) for delay in RETRY_DELAYS]
        counts = await asyncio.gather(*map(self._ready_in, queues))
        delays_s = [delay // timedelta(seconds=1) for delay in RETRY_DELAYS]
        return dict(zip(delays_s, counts, strict=True))

    async def _dead_letters(self) -> DeadLetters | None:
        queue = self._names.jobs_dead
        total = await self._ready_in(queue)
        if self._dead is not None:
            read_s, known = self._dead
            if known.total == total or monotonic() - read_s < _OLD_S:
                return DeadLetters(total, min(known.read, total), known.by_kind)
        try:
            found = await self._limited(dead_by_kind(self._connection, queue, total))
        except ChannelAccessRefused:
            self._unknown[f"the kinds of dead letters: the user may not read {queue}"] = None
            return DeadLetters(total, 0, {})
        dead = DeadLetters(found.total, found.read, dict(found.by_kind.most_common()))
        self._dead = monotonic(), dead
        return dead

    async def _all_reaches(self) -> tuple[Reach | None, Reach | None]:
        """Return how far back the event log and the journal reach."""
        if self._reaches is None or monotonic() - self._reaches[0] > _OLD_S:
            self._unread = []
            partitions = self._settings.events_log_partitions if self._settings.events_log else 0
            log = [self._names.events_log_stream(it) for it in range(partitions)]
            event_log = asyncio.ensure_future(self._reach(log)) if log else None
            journal = await self._reach([self._names.journal])
            both = (await event_log if event_log else None), journal
            self._reaches = monotonic(), both
        self._unknown |= dict.fromkeys(self._unread)
        return self._reaches[1]

    async def _reach(self, streams: Sequence[str]) -> Reach | None:
        try:
            firsts = await asyncio.gather(*map(self._first, streams))
        except (NoSuchQueue, StreamUnreadable) as error:
            self._unread.append(" ".join(str(error).split()))
            return None
        return reach_of([first for first in firsts if first is not None])

    async def _first(self, stream: str) -> tuple[int, datetime] | None:
        """Return offset and time of the first message of a stream; None if none comes."""
        try:
            async with self._channels, asyncio.timeout(_FIRST_WITHIN_S):
                first = await first_kept(self._connection, stream)
        except TimeoutError:
            return None
        return None if first is None or first.sent_at is None else (first.offset, first.sent_at)

    async def _broker(self) -> BrokerTold | None:
        if self._settings.management_url is None:
            return None
        path = urlsplit(self._settings.broker_urls[0]).path
        url = self._settings.management_url.get_secret_value()
        try:
            async with Management(url, unquote(path[1:]) or "/") as management:
                traffic = await management.traffic(self._names.jobs)
                nodes = await management.nodes()
        except ManagementSilent as error:
            self._unknown[str(error)] = None
            return None
        alarms = [f"memory on {it.name}" for it in nodes if it.mem_alarm]
        alarms += [f"disk on {it.name}" for it in nodes if it.disk_free_alarm]
        rates = traffic.message_stats
        return BrokerTold(
            traffic.messages_unacknowledged,
            rates.publish_details.rate,
            rates.ack_details.rate,
            alarms,
        )
