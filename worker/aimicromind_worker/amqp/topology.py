"""Define the exchanges, queues and streams that the worker needs, with their arguments."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, NamedTuple

from aimicromind_schemas import PARTITIONS, Names
from aimicromind_worker.core.job.retry import RETRY_DELAYS

Argument = str | int | bool
ExchangeType = Literal["topic", "fanout", "direct"]
# Each read of a dead letter counts as a delivery. RabbitMQ 3.10 has no value for "unlimited".
_LOOKS = 1_000_000
# The deliveries of a job before the broker dead-letters it, the same on all versions.
_DELIVERIES = 20
# The leaders of queues and streams are spread over the nodes, whichever node declares them.
_SPREAD: Mapping[str, Argument] = {"x-queue-leader-locator": "balanced"}
# Retention deletes whole segments: a segment must be small compared with the limits.
_SEGMENT_BYTES = 50_000_000
# A partition's segments are smaller. Retention by age deletes when one is full: with the same
# traffic, those of four partitions are full as often as those of one stream.
_SEGMENTS_OF_PARTITION = 40
_LEAST_SEGMENT_BYTES = 1_000_000
_CONTROL_SEGMENT_BYTES = 5_000_000
# An earlier version bound the journal to these events. Workers write their records there now.
_WHOLE_EVENTS = tuple(
    f"chat.*.{name}"
    for name in ("start", "retry", "error", "end", "usedTools", "calledTools", "action")
)


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange.

    Attributes:
        name: The name on the broker.
        type: The AMQP type.
        arguments: The arguments of the declaration.
    """

    name: str
    type: ExchangeType = "topic"
    arguments: Mapping[str, Argument] = field(default_factory=dict)


class Binding(NamedTuple):
    """A binding of a queue.

    Attributes:
        source: The exchange.
        key: The binding key.
        arguments: The arguments of the binding.
    """

    source: str
    key: str = ""
    arguments: Mapping[str, Argument] = {}


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue or stream.

    Attributes:
        name: The name on the broker.
        arguments: The arguments of the declaration.
        bindings: The bindings to exchanges.
        unbound: The bindings that earlier versions made, and that are removed.
    """

    name: str
    arguments: Mapping[str, Argument]
    bindings: Sequence[Binding] = ()
    unbound: Sequence[Binding] = ()


@dataclass(frozen=True, slots=True)
class SuperStream:
    """A super stream: its partitions are the streams `<name>-0`, `<name>-1` and so on.

    Attributes:
        name: The name of the exchange that lists the partitions.
        partitions: The number of partitions.
    """

    name: str
    partitions: int

    def stream(self, partition: int) -> str:
        """Return the name of a partition."""
        return f"{self.name}-{partition}"

    def streams(self) -> list[str]:
        """Return the names of all partitions."""
        return [self.stream(partition) for partition in range(self.partitions)]


@dataclass(frozen=True, slots=True)
class Topology:
    """All objects that the worker needs on the broker.

    Attributes:
        exchanges: The exchanges, declared first.
        queues: The queues and streams, declared and bound after them.
        retired: The names of queues that earlier versions declared and this one does not use.
        event_log: The event log, whose partitions are among the queues; None: there is none.
    """

    exchanges: Sequence[Exchange]
    queues: Sequence[Queue]
    retired: Sequence[str] = ()
    event_log: SuperStream | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    """The retention of a stream; the limit that is reached first applies.

    Attributes:
        max_age: The age in the broker's notation, such as `24h`.
        max_bytes: The size of the whole stream in bytes.
    """

    max_age: str
    max_bytes: int


JOURNAL_KEEPS = Retention("7D", 2_000_000_000)
# A cancel request is kept longer than any job lives.
_CONTROL_LOG_KEEPS = Retention("7D", 100_000_000)


def topology(
    names: Names,
    event_log: Retention | None,
    journal: Retention = JOURNAL_KEEPS,
    jobs_max_length: int = 0,
    partitions: int = PARTITIONS,
) -> Topology:
    """Return all objects that the worker needs.

    Args:
        names: The names of exchanges and queues, made from the prefix.
        event_log: The retention of the event log, over all partitions; None: no event log.
        journal: The retention of the journal, and of the endings.
        jobs_max_length: The most jobs in the queue, above which the broker nacks; 0: unlimited.
        partitions: The number of partitions of the event log.
    """
    log = None
    queues = [*_job_queues(names, jobs_max_length), *_streams(names, journal)]
    exchanges = [
        *map(Exchange, (names.events, names.jobs, names.jobs_reaped, names.jobs_dead)),
        Exchange(names.control, "fanout"),
        Exchange(names.pool, "fanout"),
    ]
    if event_log is not None:
        exchanges.append(Exchange(names.events_log, "direct", {"x-super-stream": True}))
        log = SuperStream(names.events_log, partitions)
        queues += _partitions(names, event_log, log)
    return Topology(tuple(exchanges), tuple(queues), retired=(names.events_log,), event_log=log)


def _job_queues(names: Names, max_length: int) -> list[Queue]:
    jobs = _quorum(_DELIVERIES, names.jobs_reaped)
    if max_length:
        jobs = {**jobs, "x-max-length": max_length}
    dead = {"x-queue-type": "quorum", "x-delivery-limit": _LOOKS, **_SPREAD}
    reaped = _quorum(_LOOKS, names.jobs_dead)
    return [
        Queue(names.jobs_dead, dead, (Binding(names.jobs_dead, "#"),)),
        Queue(names.jobs_reaped, reaped, (Binding(names.jobs_reaped, "#"),)),
        Queue(names.jobs, jobs, (Binding(names.jobs, "#"),)),
        *(_delay_queue(names, delay) for delay in RETRY_DELAYS),
    ]


def _streams(names: Names, journal: Retention) -> list[Queue]:
    kept = _stream(journal)
    whole_events = tuple(Binding(names.events, key) for key in _WHOLE_EVENTS)
    control = _stream(_CONTROL_LOG_KEEPS, _CONTROL_SEGMENT_BYTES)
    return [
        Queue(names.journal, kept, unbound=whole_events),
        Queue(names.endings, kept, (Binding(names.events, "chat.*.end"),)),
        Queue(names.control_log, control, (Binding(names.control),)),
    ]


def _partitions(names: Names, event_log: Retention, log: SuperStream) -> list[Queue]:
    """Return the partitions, the first one last: where it is there, all have been declared."""
    kept = Retention(event_log.max_age, event_log.max_bytes // log.partitions)
    segment_bytes = max(_LEAST_SEGMENT_BYTES, kept.max_bytes // _SEGMENTS_OF_PARTITION)
    arguments = _stream(kept, min(_SEGMENT_BYTES, segment_bytes))
    queues = []
    for partition in reversed(range(log.partitions)):
        # The worker names the partition in the header BCC, by which the exchange routes, too.
        key = "#" if log.partitions == 1 else str(partition)
        # Clients of the stream protocol find the streams by their bindings to the log's exchange.
        listed = Binding(log.name, str(partition), {"x-stream-partition-order": partition})
        queues.append(Queue(log.stream(partition), arguments, (Binding(names.events, key), listed)))
    return queues


def _quorum(deliveries: int, dead_letters_to: str) -> Mapping[str, Argument]:
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": deliveries,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": dead_letters_to,
        "x-dead-letter-strategy": "at-least-once",
        **_SPREAD,
    }


def _delay_queue(names: Names, delay: timedelta) -> Queue:
    # Nothing is consumed from a delay queue: its delivery limit is never reached.
    arguments = _quorum(_DELIVERIES, names.jobs)
    ttl_ms = delay // timedelta(milliseconds=1)
    return Queue(names.jobs_delay(delay), {**arguments, "x-message-ttl": ttl_ms})


def _stream(keeps: Retention, segment_bytes: int = _SEGMENT_BYTES) -> Mapping[str, Argument]:
    return {
        "x-queue-type": "stream",
        "x-max-age": keeps.max_age,
        "x-max-length-bytes": keeps.max_bytes,
        "x-stream-max-segment-size-bytes": min(segment_bytes, keeps.max_bytes),
        **_SPREAD,
    }
