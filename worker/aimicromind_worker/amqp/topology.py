"""List the exchanges, queues and streams that the worker needs on the broker."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal, NamedTuple

from aimicromind_schemas import JOURNAL_BINDINGS, Names
from aimicromind_worker.core.job.delays import RETRY_DELAYS

Argument = str | int | bool
ExchangeType = Literal["topic", "fanout", "direct"]
# Each look at a dead letter counts as a delivery; the broker knows no "unlimited" on 3.10.
_LOOKS = 1_000_000
# Deliveries of a job before the broker dead-letters it, the same on all versions.
_DELIVERIES = 20
# Leaders of queues and streams spread over the nodes, whichever node declares them.
_SPREAD: Mapping[str, Argument] = {"x-queue-leader-locator": "balanced"}
# Retention works on whole segments, so a segment must be small beside the limits.
_SEGMENT_BYTES = 50_000_000
_CONTROL_SEGMENT_BYTES = 5_000_000


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: ExchangeType = "topic"
    arguments: Mapping[str, Argument] = field(default_factory=dict)


class Binding(NamedTuple):
    """How a queue is bound to an exchange."""

    source: str
    key: str = ""
    arguments: Mapping[str, Argument] = {}


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue with its arguments and bindings."""

    name: str
    arguments: Mapping[str, Argument]
    bindings: Sequence[Binding] = ()


@dataclass(frozen=True, slots=True)
class Topology:
    """All that the worker needs on the broker.

    Attributes:
        exchanges: Declared first.
        queues: Declared after them, and bound.
        retired: Queues that earlier versions declared and this one does not use.
    """

    exchanges: Sequence[Exchange]
    queues: Sequence[Queue]
    retired: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Retention:
    """How much a stream keeps; the limit that is reached first counts.

    Attributes:
        max_age: As the broker writes it, such as `24h`.
        max_bytes: Size of the whole stream.
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
) -> Topology:
    """Return the topology of one prefix.

    Args:
        names: The names, from the prefix.
        event_log: What the event log keeps; None: there is none.
        journal: What the journal and the endings keep, each.
        jobs_max_length: Most jobs in the queue, which nacks more; 0: any number.
    """
    queues = [*_job_queues(names, jobs_max_length), *_streams(names, journal)]
    exchanges = [
        *map(Exchange, (names.events, names.jobs, names.jobs_reaped, names.jobs_dead)),
        Exchange(names.control, "fanout"),
        Exchange(names.pool, "fanout"),
    ]
    if event_log is not None:
        exchanges.append(Exchange(names.events_log, "direct", {"x-super-stream": True}))
        queues.append(_partition(names, event_log))
    return Topology(tuple(exchanges), tuple(queues), retired=(names.events_log,))


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
    milestones = tuple(Binding(names.events, key) for key in JOURNAL_BINDINGS)
    control = _stream(_CONTROL_LOG_KEEPS, _CONTROL_SEGMENT_BYTES)
    return [
        Queue(names.journal, kept, milestones),
        Queue(names.endings, kept, (Binding(names.events, "chat.*.end"),)),
        Queue(names.control_log, control, (Binding(names.control),)),
    ]


def _partition(names: Names, event_log: Retention) -> Queue:
    # Clients of the stream protocol find it by the binding to the exchange of the log.
    listed = Binding(names.events_log, "0", {"x-stream-partition-order": 0})
    bindings = (Binding(names.events, "#"), listed)
    return Queue(names.events_log_stream(), _stream(event_log), bindings)


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
    # Nothing is consumed from a delay queue, so that its delivery limit is never reached.
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
