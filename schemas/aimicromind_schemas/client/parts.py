"""The parts of a client, and the connections that they share."""

import ssl
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Self

from aimicromind_schemas.client.batches import Readings
from aimicromind_schemas.client.connection import ClientConnection
from aimicromind_schemas.client.endings_search import EndingsSearch
from aimicromind_schemas.client.following import Sources
from aimicromind_schemas.client.handles import handle_before
from aimicromind_schemas.client.live import LiveEvents
from aimicromind_schemas.client.publishing import JobPublisher
from aimicromind_schemas.client.queues import reading
from aimicromind_schemas.client.results import Results
from aimicromind_schemas.client.stream_past import StreamPast
from aimicromind_schemas.client.submitted import SubmittedJobs
from aimicromind_schemas.client.subscription import BoundQueue
from aimicromind_schemas.messages.events import Event
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
class Parts:
    """The parts of one client; `open` builds them."""

    connections: Connections
    names: Names
    live: LiveEvents
    log: StreamPast
    ends: StreamPast
    search: EndingsSearch
    results: Results
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
        log = StreamPast(readings, names.events_log_stream())
        ends = StreamPast(readings, names.endings)
        search = EndingsSearch(readings, names.endings)
        publishing = JobPublisher(connections.jobs, names)
        results = Results(live, search)
        try:
            await connections.events.connection(once=True)
            yield cls(
                connections, names, live, log, ends, search, results, publishing, SubmittedJobs()
            )
        finally:
            for part in (live, log, ends, search):
                await part.close()
            for each in (connections.events, connections.streams, connections.jobs):
                await each.close()

    def sources(self, *, replayed: bool, since: datetime | None, handle: str | None) -> Sources:
        """Return where a follower reads earlier events.

        Args:
            replayed: Whether it begins with those in the event log.
            since: Where to begin there; None for the first event that is left.
            handle: Handle of the job; None where it is not known.
        """
        before = (self.log,) if replayed else ()
        log = self.names.events_log_stream()
        return Sources(before, (self.log, self.ends), since, handle, log)

    def reading(
        self, queue: str, bindings: Iterable[str], arguments: Mapping[str, Any]
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Declare and read a queue for services; an empty name is a queue of its own."""
        bound = BoundQueue(queue, self.names.events, bindings, arguments)
        return reading(self.connections.events, bound)

    async def handle_before(self, chat_id: str) -> str | None:
        """Return a handle for a job that is submitted next to a chat."""
        return await handle_before(self.connections.streams, self.names, chat_id)
