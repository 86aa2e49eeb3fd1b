"""The parts of a client, and the connections that they share."""

import ssl
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Self

from aimicromind_schemas.client.connection import ClientConnection
from aimicromind_schemas.client.following import Sources
from aimicromind_schemas.client.jobs.handles import Handles
from aimicromind_schemas.client.jobs.results import Results
from aimicromind_schemas.client.jobs.submitted import SubmittedJobs
from aimicromind_schemas.client.live.live_events import LiveEvents
from aimicromind_schemas.client.past.batches import Readings
from aimicromind_schemas.client.past.endings_search import EndingsSearch
from aimicromind_schemas.client.past.log_place import missed_in_endings, missed_in_log
from aimicromind_schemas.client.past.sources import Past
from aimicromind_schemas.client.past.stream_past import StreamPast
from aimicromind_schemas.client.past.worker_past import FirstAttempt, WorkerPast
from aimicromind_schemas.client.publishing import ConfirmedChannel, JobPublisher
from aimicromind_schemas.client.queues import reading
from aimicromind_schemas.client.subscription import BoundQueue
from aimicromind_schemas.client.wanted import Wanted
from aimicromind_schemas.messages.events import Event
from aimicromind_schemas.reading import Position
from aimicromind_schemas.routing import Names


@dataclass(frozen=True, slots=True)
class Connections:
    """The connections of a client; each but `events` is opened on demand.

    Attributes:
        jobs: Publishes. A broker with a memory alarm reads nothing from it.
        events: Live events, and the queues of services. It never publishes.
        streams: Streams, which are sent as fast as they are read. They would delay live events.
    """

    jobs: ClientConnection
    events: ClientConnection
    streams: ClientConnection

    @classmethod
    def to(cls, urls: Sequence[str], patience: timedelta, tls: ssl.SSLContext | None) -> Self:
        """Prepare connections to the first of some addresses where a broker answers."""
        jobs, events, streams = (
            ClientConnection(urls, f"aimicromind client, {name}", patience, tls)
            for name in ("jobs", "events", "streams")
        )
        return cls(jobs, events, streams)


@dataclass(frozen=True, slots=True)
class Begin:
    """Where a follower begins.

    Attributes:
        replayed: Whether with events that were published before.
        since: When to begin with them; None for the first event that is left.
        after: The event of the job behind which to begin; None for its first one.
    """

    replayed: bool
    since: datetime | None
    after: Position | None


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of one client; `open` builds them."""

    connections: Connections
    names: Names
    live: LiveEvents
    worker: WorkerPast
    log: StreamPast
    ends: StreamPast
    search: EndingsSearch
    results: Results
    handles: Handles
    publishing: JobPublisher
    submitted: SubmittedJobs

    @classmethod
    @asynccontextmanager
    async def open(cls, connections: Connections, names: Names) -> AsyncIterator[Self]:
        """Connect for the time of the body.

        Raises:
            BrokerUnreachable, BrokerRefused, BrokerTlsRefused: See `ClientConnection.connection`.
        """
        readings = Readings(connections.streams)
        live = LiveEvents(connections.events, names.events)
        worker = WorkerPast(live, ConfirmedChannel(connections.jobs), names)
        log = StreamPast(readings, partial(missed_in_log, names))
        ends = StreamPast(readings, partial(missed_in_endings, names))
        search = EndingsSearch(readings, names.endings)
        handles = Handles(connections.streams, names)
        publishing = JobPublisher(connections.jobs, names)
        results = Results(live, search)
        submitted = SubmittedJobs()
        try:
            await connections.events.connection(once=True)
            yield cls(
                connections,
                names,
                live,
                worker,
                log,
                ends,
                search,
                results,
                handles,
                publishing,
                submitted,
            )
        finally:
            for part in (live, worker, log, ends, search, handles):
                await part.close()
            for each in (connections.events, connections.streams, connections.jobs):
                await each.close()

    def sources(self, wanted: Wanted, begin: Begin, handle: str | None) -> Sources:
        """Return where a follower reads earlier events.

        Args:
            wanted: Which events.
            begin: Where it begins.
            handle: Handle of the job; None where it is not known.
        """
        # A worker knows the job that it runs, not those before it in the chat.
        is_known = wanted.chat_id is not None and wanted.job_id is not None
        before: tuple[Past, ...] = ()
        if begin.replayed:
            first = (FirstAttempt(self.worker),) if is_known else ()
            before = (*first, self.log, self.worker)
        missed = (self.log, self.worker, self.ends) if is_known else (self.log, self.ends)
        log = self.names.events_log
        return Sources(before, missed, begin.since, handle, begin.after, log)

    def reading(
        self, queue: str, bindings: Iterable[str], arguments: Mapping[str, Any]
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Declare and read a queue for services; an empty name is a queue of its own."""
        bound = BoundQueue(queue, self.names.events, bindings, arguments)
        return reading(self.connections.events, bound)
