"""Client of an installation: submit jobs, follow chats, wait for results, cancel."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Final, Self

from aimicromind_schemas.client.following import Followed, Following, opened, reader_of
from aimicromind_schemas.client.jobs.job_id import new_job_id
from aimicromind_schemas.client.jobs.jobs import Jobs
from aimicromind_schemas.client.parts import Begin, Connections, Parts
from aimicromind_schemas.client.past.log_place import CLOCK_SLACK
from aimicromind_schemas.client.wanted import Wanted
from aimicromind_schemas.messages.events import Event
from aimicromind_schemas.messages.job import PredictionJob
from aimicromind_schemas.messages.worker_events import EndEvent
from aimicromind_schemas.reading import Gap, Position
from aimicromind_schemas.routing import Names

_PATIENCE: Final = timedelta(minutes=1)


class Client(Jobs):
    """Submits, follows and cancels. Any number of tasks may call its methods at once."""

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str | Sequence[str],
        prefix: str = "aimicromind",
        patience: timedelta = _PATIENCE,
        tls: ssl.SSLContext | None = None,
    ) -> AsyncIterator[Self]:
        """Connect for the time of the body.

        Args:
            url: `amqp://` or `amqps://`. Several are tried in order.
            prefix: First word of the names of exchanges and queues, as the workers have it.
            patience: How long to try to connect again after the connection was lost.
            tls: For `amqps://`, such as `ssl.create_default_context(cafile=…)`; None trusts the
                system's certificates.

        Raises:
            ValueError: An address has TLS parameters after its `?`: use `tls`.
            BrokerUnreachable: No broker answers. Each address is tried once.
            BrokerRefused: The broker rejects the login or the virtual host.
            BrokerTlsRefused: One side rejects the other's certificate.
        """
        urls = [url] if isinstance(url, str) else url
        async with Parts.open(Connections.to(urls, patience, tls), Names(prefix)) as parts:
            yield cls(parts)

    @asynccontextmanager
    async def follow(
        self,
        *,
        chat_id: str | None = None,
        job_id: str | None = None,
        from_start: bool | datetime = False,
        after: Position | None = None,
        until: str | None = None,
        handle: str | None = None,
    ) -> AsyncIterator[Followed]:
        """Follow a job to its `end`, or a chat until the body ends.

        No event published after the body begins is missed, unless the body is too slow: 1,000
        events or 4 MiB wait for it. The rule for consumers is applied. Missing events are reported
        as a `Gap`, and the `end` always comes. A lost connection is opened again.

        Args:
            chat_id: The chat. Without it, another client's job is looked for in all chats.
            job_id: The job.
            from_start: Begin with earlier events: all in the event log, or those from a time on.
                The worker is asked instead for a job that runs, if its chat is known.
            after: Begin with the events after this one of the job.
            until: Stop after the `end` of this job, in a chat.
            handle: Handle of the job, as `submit` returned it, or its `start` and `end` have it.

        Raises:
            ValueError: Neither a chat nor a job is named, or `after` without a job.
            NothingToListenTo: The exchange of events does not exist: no worker has run.
            NoEventLog: The event log is switched off, and no worker runs the job.
            BrokerUnreachable: No broker answered within `patience`; also from the iteration.
            BrokerRefused: The user lacks a permission, or a limit is reached.
        """
        reader, submitted = reader_of(chat_id, job_id, after), self._parts.submitted
        since = from_start if isinstance(from_start, datetime) else submitted.since(job_id)
        replayed = after is not None or from_start is not False
        wanted = Wanted.of(chat_id or submitted.chat_of(job_id), job_id)
        sources = self._parts.sources(wanted, Begin(replayed, since, after), handle)
        live, last, ended = self._parts.live, job_id or until, submitted.ended
        async with opened(Following(live, sources, wanted, reader, last, ended)) as items:
            yield items

    @asynccontextmanager
    async def request(self, job: PredictionJob) -> AsyncIterator[Followed]:
        """Submit a job and follow it to its `end`: `submit` and `follow`, with no event missed."""
        job_id = job.job_id or new_job_id()
        async with self.follow(chat_id=job.chat_id or job_id, job_id=job_id) as items:
            items.handle = (await self._submit(job, job_id, None, None)).handle
            yield items

    async def whole_answer(
        self, end: EndEvent, *, within: timedelta = timedelta(minutes=1)
    ) -> list[Event | Gap]:
        """Return the events of a job's last attempt, from the event log, by the rule for consumers.

        Args:
            end: The `end` of the job, which is the last of the events returned.
            within: How long to read. A `Gap` stands for events that are no longer in the log.

        Raises:
            TimeoutError: They were not read in time.
            NothingToListenTo, NoEventLog, BrokerUnreachable, BrokerRefused: See `follow`.
        """
        answer: list[Event | Gap] = []
        since = end.time - timedelta(seconds=end.data.duration_seconds) - CLOCK_SLACK
        follow = self.follow(
            chat_id=end.chat_id, job_id=end.job_id, from_start=since, handle=end.data.handle
        )
        async with asyncio.timeout(within.total_seconds()), follow as items:
            async for item in items:
                if answer and item.attempt > answer[-1].attempt:
                    answer.clear()
                answer.append(item)
        return answer
