"""Hold what `status` found of the workers, the jobs and the streams of an installation."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec

from aimicromind_schemas import WorkerReport

_SHORTEST_S: Final = 0.2


class Jobs(msgspec.Struct, frozen=True, rename="camel"):
    """Where the jobs are.

    Attributes:
        ready: In the queue; no worker has them.
        running: In workers that answered, begun.
        waiting_for_chat: In these workers, until it is their turn in their chat.
        waiting_otherwise: In these workers, for a slot or the endpoint.
        delayed: In the delay queues, by the delay in seconds.
        dead_lettered_by_broker: Dead-lettered by the broker; a worker is about to end them.
        oldest_held_seconds: Time since the submission of the oldest job in a worker; None: unknown.
    """

    ready: int
    running: int
    waiting_for_chat: int
    waiting_otherwise: int
    delayed: Mapping[int, int]
    dead_lettered_by_broker: int
    oldest_held_seconds: float | None

    @property
    def all_delayed(self) -> int:
        """Jobs in all delay queues."""
        return sum(self.delayed.values())


class DeadLetters(msgspec.Struct, frozen=True, rename="camel"):
    """The dead letters.

    Attributes:
        total: All of them.
        read: Those that were read, the oldest ones.
        by_kind: The number of each kind, of those that were read, the most frequent first.
    """

    total: int
    read: int
    by_kind: Mapping[str, int]


class Reach(msgspec.Struct, frozen=True, rename="camel"):
    """How far back a log reaches.

    Attributes:
        oldest: The time of its oldest message; None: it shows none.
        complete_since: The time since which nothing is missing; None: nothing was removed yet.
    """

    oldest: datetime | None
    complete_since: datetime | None


class Throughput(msgspec.Struct, frozen=True, rename="camel"):
    """What the workers did between two readings of their counters."""

    over_seconds: float
    jobs_per_second: float
    events_per_second: float


class BrokerTold(msgspec.Struct, frozen=True, rename="camel"):
    """What the management API told, some seconds ago.

    Attributes:
        unacknowledged: Jobs in any worker, those included that do not answer.
        submitted_per_second: Jobs that came into the queue.
        acknowledged_per_second: Jobs that left it.
        alarms: The alarms that are set, such as `memory on rabbit@host`.
    """

    unacknowledged: int
    submitted_per_second: float
    acknowledged_per_second: float
    alarms: Sequence[str]


class Status(msgspec.Struct, frozen=True, rename="camel"):
    """The status of an installation at one time.

    Attributes:
        time: When it was read, aware.
        workers: The reports of the workers that answered.
        consumers: Consumers of the queue of jobs.
        silent_consumers: Consumers of the queue of jobs that are no such worker's.
        jobs: Where the jobs are.
        dead_letters: None: they cannot be read.
        event_log: None: there is none, or it cannot be read.
        journal: None: it cannot be read.
        throughput: None: no worker answered twice.
        broker: None: no management API was named, or it does not answer.
        unknown: What could not be found out, as sentences.
    """

    time: datetime
    workers: Sequence[WorkerReport]
    consumers: int
    silent_consumers: int
    jobs: Jobs
    dead_letters: DeadLetters | None
    event_log: Reach | None
    journal: Reach | None
    throughput: Throughput | None
    broker: BrokerTold | None
    unknown: Sequence[str]


def as_json(status: Status) -> dict[str, Any]:
    """Return a status as JSON has it; workers as in their reports."""
    told: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(status, workers=()))
    told["workers"] = [json.loads(report.encode()) for report in status.workers]
    delayed = {str(delay_s): count for delay_s, count in status.jobs.delayed.items()}
    told["jobs"]["delayed"] = delayed
    return told


def jobs_of(
    reports: Sequence[WorkerReport], ready: int, delayed: Mapping[int, int], reaped: int
) -> Jobs:
    """Return where the jobs are, from the reports of workers and the numbers of queues.

    Args:
        reports: Of the workers that answered.
        ready: Jobs that no worker has.
        delayed: Jobs in the delay queues, by the delay in seconds.
        reaped: Jobs that the broker dead-lettered.
    """
    ages = [it.oldest_seconds for it in reports if it.oldest_seconds is not None]
    for_chat = sum(it.waiting_for_chat for it in reports)
    return Jobs(
        ready=ready,
        running=sum(it.running for it in reports),
        waiting_for_chat=for_chat,
        waiting_otherwise=max(0, sum(it.waiting for it in reports) - for_chat),
        delayed=delayed,
        dead_lettered_by_broker=reaped,
        oldest_held_seconds=max(ages, default=None),
    )


def throughput_of(
    before: Sequence[WorkerReport], after: Sequence[WorkerReport]
) -> Throughput | None:
    """Return what the workers did between two readings that both have; None if there is none.

    Each worker's own clock counts. Of one that began in between, nothing is known.
    """
    earlier = {it.worker: it for it in before}
    pairs = [(earlier[it.worker], it) for it in after if it.worker in earlier]
    times_s = [new.up_seconds - old.up_seconds for old, new in pairs]
    if min(times_s, default=0.0) < _SHORTEST_S:
        return None
    each = list(zip(pairs, times_s, strict=True))
    return Throughput(
        over_seconds=max(times_s),
        jobs_per_second=sum(max(0, new.ended - old.ended) / time_s for (old, new), time_s in each),
        events_per_second=sum(
            max(0, new.events - old.events) / time_s for (old, new), time_s in each
        ),
    )


def reach_of(firsts: Sequence[tuple[int, datetime]]) -> Reach:
    """Return how far back a log reaches, over all its streams.

    Args:
        firsts: Of each stream that shows a message, the offset of its first one and when that was
            sent. What came before an offset above 0 has been removed.
    """
    removed = [sent_at for offset, sent_at in firsts if offset > 0]
    return Reach(min((sent_at for _, sent_at in firsts), default=None), max(removed, default=None))


def silent_consumers(reports: Sequence[WorkerReport], consumers: int) -> int:
    """Return how many consumers of the queue of jobs are of no worker that answered."""
    return max(0, consumers - sum(it.consumers for it in reports))
