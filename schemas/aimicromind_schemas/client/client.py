"""The client: put jobs in, follow chats, wait for endings, cancel. See docs/consumers.md."""

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self
from uuid import uuid4

from aimicromind_schemas.client.errors import EndNotReadable, NoEndYet
from aimicromind_schemas.client.following import CLOCK_SLACK, Following, Replay, opened
from aimicromind_schemas.client.joined import Wanted
from aimicromind_schemas.client.link import Link
from aimicromind_schemas.client.publishing import JobPublisher
from aimicromind_schemas.client.queues import SHARED_ARGUMENTS, reading
from aimicromind_schemas.client.subscription import Fresh
from aimicromind_schemas.messages.cancel import ChatCancel, JobCancel
from aimicromind_schemas.messages.events import Event
from aimicromind_schemas.messages.job import PredictionJob
from aimicromind_schemas.messages.worker_events import EndEvent
from aimicromind_schemas.reading import Gap, Position, Reader
from aimicromind_schemas.routing import Names, chat_binding, routing_key

_PATIENCE: Final = timedelta(minutes=1)
_JOBS_KEPT: Final = 10_000
_ALL_CHATS: Final = "chat.#"


@dataclass(frozen=True, slots=True)
class _Submitted:
    chat_id: str
    at: datetime


class Client:
    """One user of an installation; any number of its calls may run at once."""

    def __init__(
        self,
        urls: Sequence[str],
        names: Names,
        patience: timedelta,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._names = names
        # Two, so that a broker which has no memory for new jobs still brings events.
        self._out = Link(urls, "aimicromind client, jobs", patience, tls)
        self._in = Link(urls, "aimicromind client, events", patience, tls)
        self._publishing = JobPublisher(self._out, names)
        self._submitted: OrderedDict[str, _Submitted] = OrderedDict()

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        url: str | Sequence[str],
        prefix: str = "aimicromind",
        patience: timedelta = _PATIENCE,
        tls: ssl.SSLContext | None = None,
    ) -> AsyncIterator[Self]:
        """Connect, and close at the end.

        Args:
            url: amqp:// or amqps://. Several are tried in order.
            prefix: First word of the names of exchanges and queues.
            patience: How long to try to reach a broker again when the connection was lost.
            tls: Whom to trust and what to show where the address begins with amqps://, such as
                `ssl.create_default_context(cafile=…)`; None: the system's certificates are trusted.

        Raises:
            ValueError: An address says something of TLS after its `?`: use `tls`.
            BrokerUnreachable: No broker answers.
            BrokerRefused: It lets us not in.
            BrokerTlsRefused: One of the two sides does not accept the other's certificate.
        """
        client = cls([url] if isinstance(url, str) else url, Names(prefix), patience, tls)
        try:
            await client._in.connection(once=True)
            yield client
        finally:
            await client._in.close()
            await client._out.close()

    async def submit(
        self,
        job: PredictionJob,
        *,
        reply_to: str | None = None,
        correlation_id: str | None = None,
    ) -> str:
        """Put a job on the queue; it is safe there once this returns.

        Args:
            job: What to ask. Without a `job_id` it gets one.
            reply_to: A queue that gets a copy of each event of the job.
            correlation_id: Comes back with each event, in the property of that name.

        Returns:
            The job's id.

        Raises:
            NobodyReceives: No worker has run, and nobody declared the queue.
            QueueFull: The queue takes no more.
            NotConfirmed: The connection closed meanwhile; submit the job again with its id.
            BrokerUnreachable: No broker answers; nothing was sent.
        """
        job_id = job.job_id or str(uuid4())
        named = job.model_copy(update={"job_id": job_id})
        self._remember(job_id, _Submitted(job.chat_id or job_id, datetime.now(UTC)))
        await self._publishing.submit(named, job_id, reply_to, correlation_id)
        return job_id

    @asynccontextmanager
    async def follow(
        self,
        *,
        chat_id: str | None = None,
        job_id: str | None = None,
        from_start: bool | datetime = False,
        after: Position | None = None,
        until: str | None = None,
    ) -> AsyncIterator[AsyncIterator[Event | Gap]]:
        """Follow a job to its end, or a chat until the body ends.

        Once the body begins, nothing that is published is missed. The events come by the rule for
        consumers: no repeats, nothing of an attempt after a newer one began, nothing after an
        end. What is missing is told as a `Gap`. A lost connection is opened again.

        Args:
            chat_id: The chat; with a job, that of the job, if somebody else submitted it. Where
                neither is known, all chats are looked through.
            job_id: The job.
            from_start: Begin with what the event log has, all of it or from a time on.
            after: Begin with what follows this event of the job.
            until: Stop after the end of this job, in a chat.

        Raises:
            ValueError: Neither a chat nor a job is named, or `after` without a job.
            NothingToListenTo: No worker has run.
            NoEventLog: `from_start` or `after` need the log, and it is switched off.
            BrokerUnreachable: No broker answered again in time; also from the iteration.
        """
        if chat_id is None and job_id is None:
            raise ValueError("name a chat or a job")
        if after is not None and job_id is None:
            raise ValueError("`after` is a place in a job: name the job")
        reader = Reader()
        if job_id is not None and after is not None:
            reader.resume(job_id, after)
        chat_id = chat_id or self._chat_of(job_id)
        binding = _ALL_CHATS if chat_id is None else chat_binding(chat_id)
        before = after is not None or from_start is not False
        since = from_start if isinstance(from_start, datetime) else self._since(job_id)
        following = Following(
            self._in,
            Wanted(self._names.events, binding, chat_id, job_id),
            Replay((self._names.events_log_stream(), self._names.endings), before, since),
            reader,
            job_id or until,
        )
        async with opened(following) as items:
            yield items

    @asynccontextmanager
    async def request(self, job: PredictionJob) -> AsyncIterator[AsyncIterator[Event | Gap]]:
        """Submit a job and follow it to its end: `submit` and `follow`, with nothing missed."""
        job = job.model_copy(update={"job_id": job.job_id or str(uuid4())})
        job_id = job.job_id
        async with self.follow(chat_id=job.chat_id or job_id, job_id=job_id) as items:
            await self.submit(job)
            yield items

    async def result(
        self, job_id: str, *, chat_id: str | None = None, within: timedelta = timedelta(minutes=10)
    ) -> EndEvent:
        """Wait for the end of a job, also one that has come already.

        It is read from the stream of endings, which keeps them for a week, event log or not: for
        a job that this client submitted from then on, for others all of the stream.

        Args:
            job_id: The job.
            chat_id: Its chat, if somebody else submitted it; else all chats are looked through.
            within: How long to wait.

        Raises:
            NoEndYet: It did not end in time.
            EndNotReadable: It ended in a way that this version cannot read.
        """
        chat_id = chat_id or self._chat_of(job_id)
        binding = "chat.*.end" if chat_id is None else routing_key(chat_id, "end")
        following = Following(
            self._in,
            Wanted(self._names.events, binding, chat_id, job_id),
            Replay((self._names.endings,), before=True, since=self._since(job_id)),
            Reader(),
            job_id,
        )
        try:
            async with asyncio.timeout(within.total_seconds()), opened(following) as items:
                async for item in items:
                    if isinstance(item, EndEvent):
                        return item
        except TimeoutError as error:
            raise NoEndYet(job_id, within.total_seconds()) from error
        raise EndNotReadable(job_id)

    async def cancel(self, *, job_id: str | None = None, chat_id: str | None = None) -> None:
        """Cancel a job, or the jobs of a chat that were submitted until now.

        Its `end` then says `cancelled`, unless it had ended.

        Raises:
            ValueError: Not just one of both is named, or it is no such id.
            NobodyReceives: No worker has run.
            NotConfirmed: The connection closed meanwhile; cancel again.
            BrokerUnreachable: No broker answers; nothing was sent.
        """
        match job_id, chat_id:
            case str(job), None:
                await self._publishing.cancel(JobCancel(job), job)
            case None, str(chat):
                await self._publishing.cancel(ChatCancel(chat, datetime.now(UTC)), chat)
            case _:
                raise ValueError("name either a job or a chat")

    def shared(
        self, queue: str, *bindings: str
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Read a queue that stays and that replicas share: each event goes to one of them.

        An event is acknowledged when the next one is asked for; if the body fails before, another
        replica gets it. It may come twice. When nobody reads, 1 GB is kept, for a week. The
        rule for consumers is not applied: one replica does not see all of a job.

        Args:
            queue: Its name.
            *bindings: Which events, such as `chat.*.end`.
        """
        return reading(self._in, Fresh(queue, self._names.events, bindings, SHARED_ARGUMENTS))

    def private(self, *bindings: str) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Read a queue of one's own: whoever does sees each event, while connected.

        It is gone with the connection, and what is published until the next one is missed.

        Args:
            *bindings: Which events, such as `chat.*.usedTools`.
        """
        return reading(self._in, Fresh("", self._names.events, bindings, {}))

    def _remember(self, job_id: str, submitted: _Submitted) -> None:
        self._submitted[job_id] = submitted
        if len(self._submitted) > _JOBS_KEPT:
            self._submitted.popitem(last=False)

    def _chat_of(self, job_id: str | None) -> str | None:
        known = self._submitted.get(job_id or "")
        return None if known is None else known.chat_id

    def _since(self, job_id: str | None) -> datetime | None:
        known = self._submitted.get(job_id or "")
        return None if known is None else known.at - CLOCK_SLACK
