"""What a service does with events of any chats: consume them, or read a queue of them."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final

from aimicromind_schemas.client.consuming.options import ConsumerCounts, ConsumerOptions, Handler
from aimicromind_schemas.client.consuming.queues import ConsumerQueues
from aimicromind_schemas.client.consuming.running import run_consumer
from aimicromind_schemas.client.parts import Parts
from aimicromind_schemas.client.queues import PRIVATE_ARGUMENTS, SHARED_ARGUMENTS
from aimicromind_schemas.messages.events import Event

_DEFAULT: Final = ConsumerOptions()


class Services:
    """The part of a client for services; see `Client`."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    async def consume(
        self,
        name: str,
        handlers: Mapping[str, Handler],
        options: ConsumerOptions = _DEFAULT,
        *,
        counts: ConsumerCounts | None = None,
    ) -> None:
        """Handle each event of some names, until SIGTERM or a cancel of this task.

        The durable queue `PREFIX.consumers.NAME` is declared and bound. From then on, each event
        is handled, or goes to the queue `PREFIX.consumers.NAME.dead` after its last retry. An event
        may be handled twice where a connection or a process was lost.

        Several chats are handled at a time, the events of one chat one by one, in order. A failed
        event waits in a delay queue, and later events of its chat are handled before its retry.

        Both ends let running handlers go on for `options.drain`. What is not handled then is
        requeued. SIGTERM is left alone where the program has a handler of its own for it.

        Args:
            name: Name of the consumer. Replicas have the same one.
            handlers: What to call, by name of the event, such as `{"end": on_end}`. A handler gets
                the event, of the class for its name. The `end` of a job comes once, as the rule for
                consumers says; other events come for each attempt.
            options: Limits and delays.
            counts: Counted up while it runs.

        Raises:
            ValueError: There is no handler, or the name has other characters than A-Z a-z 0-9 _ -
            NothingToListenTo: The exchange of events does not exist: no worker has run.
            BrokerUnreachable: No broker answered within the client's `patience`.
            BrokerRefused: A permission is missing, a limit is reached, or the queue exists with
                other options.
        """
        names = self._parts.names
        queues = ConsumerQueues(names, name, options, tuple(handlers))
        connections = self._parts.connections
        counts = counts or ConsumerCounts()
        await run_consumer(connections.events, connections.jobs, queues, handlers, counts)

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
        return self._parts.reading(queue, bindings, SHARED_ARGUMENTS)

    def private(self, *bindings: str) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Read an exclusive queue: this reader gets each event, while it is connected.

        The queue is deleted with its reader. It keeps 256 MiB, and drops its oldest events if the
        reader is slower. After a lost connection, a new queue is declared; what was published
        between the two is missed.

        Args:
            *bindings: Binding keys, such as `chat.*.usedTools`.
        """
        return self._parts.reading("", bindings, PRIVATE_ARGUMENTS)
