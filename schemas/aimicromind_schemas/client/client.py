"""Client of an installation: submit jobs, follow chats, wait for results, cancel."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Final, Self
from uuid import uuid4

from aimicromind_schemas.client.connection import ClientConnection
from aimicromind_schemas.client.errors import EndNotReadable, NoEndYet
from aimicromind_schemas.client.following import Following, Replay, opened
from aimicromind_schemas.client.publishing import JobPublisher
from aimicromind_schemas.client.queues import SHARED_ARGUMENTS, reading
from aimicromind_schemas.client.submitted import SubmittedJobs
from aimicromind_schemas.client.subscription import BoundQueue
from aimicromind_schemas.client.wanted import Wanted
from aimicromind_schemas.messages.cancel import ChatCancel, JobCancel
from aimicromind_schemas.messages.events import Event
from aimicromind_schemas.messages.job import PredictionJob
from aimicromind_schemas.messages.worker_events import EndEvent
from aimicromind_schemas.reading import Gap, Position, Reader
from aimicromind_schemas.routing import Names

_PATIENCE: Final = timedelta(minutes=1)


class Client:
    """Submits, follows and cancels. Any number of tasks may call its methods at once."""

    def __init__(
        self,
        urls: Sequence[str],
        names: Names,
        patience: timedelta,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._names = names
        # Two connections: a broker with a memory alarm reads nothing from one that publishes.
        self._out = ClientConnection(urls, "aimicromind client, jobs", patience, tls)
        self._in = ClientConnection(urls, "aimicromind client, events", patience, tls)
        self._publishing = JobPublisher(self._out, names)
        self._submitted = SubmittedJobs()

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
        """Publish a job, and return once the broker has confirmed it.

        Args:
            job: The request. One without a `job_id` gets a random one.
            reply_to: A queue that receives a copy of each event of the job.
            correlation_id: Sent back in the property `correlation_id` of each event.

        Returns:
            The job's id.

        Raises:
            NobodyReceives: The queue does not exist: no worker has run, or `topology declare`.
            QueueFull: The queue is full: submit later.
            NotConfirmed: The broker did not confirm. Submit the job again, with the same id.
            BrokerUnreachable: No broker answers; nothing was sent.
            BrokerRefused: The user lacks a permission.
        """
        job_id = job.job_id or str(uuid4())
        named = job.model_copy(update={"job_id": job_id})
        self._submitted.add(job_id, job.chat_id or job_id)
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
        """Follow a job to its `end`, or a chat until the body ends.

        Nothing that is published after the body begins is missed. The rule for consumers is
        applied: no repeats, nothing of an older attempt after a newer one began, nothing after an
        `end`. Missing events are reported as a `Gap`. A lost connection is opened again.

        Args:
            chat_id: The chat. A job of another client is found faster with its chat: without it,
                the events of all chats are read.
            job_id: The job.
            from_start: Begin with the events in the event log: all, or those from a time on.
            after: Begin with the events after this one of the job.
            until: Stop after the `end` of this job, in a chat.

        Raises:
            ValueError: Neither a chat nor a job is named, or `after` without a job.
            NothingToListenTo: The exchange of events does not exist: no worker has run.
            NoEventLog: `from_start` or `after` need the event log, which is switched off.
            BrokerUnreachable: No broker answered within `patience`; also from the iteration.
        """
        reader = _reader_of(chat_id, job_id, after)
        replayed = after is not None or from_start is not False
        since = from_start if isinstance(from_start, datetime) else self._submitted.since(job_id)
        wanted = Wanted.of(self._names, chat_id or self._submitted.chat_of(job_id), job_id)
        history = Replay(self._names, log=True, before=replayed, since=since)
        async with opened(Following(self._in, wanted, history, reader, job_id or until)) as items:
            yield items

    @asynccontextmanager
    async def request(self, job: PredictionJob) -> AsyncIterator[AsyncIterator[Event | Gap]]:
        """Submit a job and follow it to its `end`: `submit` and `follow`, with no event missed."""
        job = job.model_copy(update={"job_id": job.job_id or str(uuid4())})
        job_id = job.job_id
        async with self.follow(chat_id=job.chat_id or job_id, job_id=job_id) as items:
            await self.submit(job)
            yield items

    async def result(
        self, job_id: str, *, chat_id: str | None = None, within: timedelta = timedelta(minutes=10)
    ) -> EndEvent:
        """Wait for the `end` of a job, which may have been published already.

        It is read from the stream of endings, which does not depend on the event log. Its
        retention is a setting of the workers. For a job of this client, the stream is read from
        the submission on; for others, from its beginning.

        Args:
            job_id: The job.
            chat_id: Its chat, where another client submitted it. Without it, the endings of all
                chats are read.
            within: How long to wait.

        Raises:
            NoEndYet: The job has not ended in time.
            EndNotReadable: Its `end` has a shape that this version does not know.
            NothingToListenTo: The exchange of events does not exist: no worker has run.
            BrokerUnreachable: No broker answered within `patience`.
        """
        following = Following(
            self._in,
            Wanted.ends(self._names, chat_id or self._submitted.chat_of(job_id), job_id),
            Replay(self._names, log=False, before=True, since=self._submitted.since(job_id)),
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

        The `end` of each then has the status `cancelled`, unless the job has ended before.

        Raises:
            ValueError: Both or neither are named, or it is no valid id.
            NobodyReceives: The exchange does not exist: no worker has run.
            NotConfirmed: The broker did not confirm. Cancel again.
            BrokerUnreachable: No broker answers; nothing was sent.
            BrokerRefused: The user lacks a permission.
        """
        match job_id, chat_id:
            case str(job), None:
                await self._publishing.cancel(JobCancel(job), job)
            case None, str(chat):
                await self._publishing.cancel(ChatCancel(chat, datetime.now(UTC)), chat)
            case _:
                raise ValueError("name either a job by job_id or a chat by chat_id")

    def shared(
        self, queue: str, *bindings: str
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Read a durable queue that replicas share: each event goes to one of them.

        An event is acknowledged when the next one is asked for. If the body fails before, the
        event is redelivered, perhaps to another replica; thus it may come twice. Without readers
        the queue keeps 1 GB, for a week. The rule for consumers is not applied, because a replica
        does not see all events of a job.

        Args:
            queue: Its name; declared if it does not exist.
            *bindings: Binding keys, such as `chat.*.end`.
        """
        return reading(self._in, BoundQueue(queue, self._names.events, bindings, SHARED_ARGUMENTS))

    def private(self, *bindings: str) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Read an exclusive queue: this reader gets each event, while it is connected.

        The queue is deleted with its reader. After a lost connection, a new queue is declared;
        what was published between the two is missed.

        Args:
            *bindings: Binding keys, such as `chat.*.usedTools`.
        """
        return reading(self._in, BoundQueue("", self._names.events, bindings, {}))


def _reader_of(chat_id: str | None, job_id: str | None, after: Position | None) -> Reader:
    if chat_id is None and job_id is None:
        raise ValueError("chat_id and job_id are both absent: name a chat or a job")
    reader = Reader()
    if after is not None:
        if job_id is None:
            raise ValueError("after is a position in a job: name the job by job_id")
        reader.resume(job_id, after)
    return reader
