"""Declare the exchanges, queues and streams that jobs and events go through, or compare them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from typing import Literal, NamedTuple

import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractQueue
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed

from aimicromind_schemas import JOURNAL_BINDINGS, Names
from aimicromind_worker.amqp.waiting import unless_cancelled
from aimicromind_worker.core.job.delays import RETRY_DELAYS

log = structlog.get_logger()

Argument = str | int | bool
ExchangeType = Literal["topic", "fanout", "direct"]
State = Literal["as expected", "missing", "different", "not compared", "left over"]
_TIMEOUT_S = 20.0
_COMPARE = "run `aimicromind-worker topology check` as a user who may declare"
_LEFT_OVER = "an earlier version declared it, and it still takes every event"
# Each look at a parked job counts as a delivery; the broker knows no "unlimited" on 3.10.
_LOOKS = 1_000_000
# Deliveries of a job before the broker gives it up, the same on all versions.
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


@dataclass(frozen=True, slots=True)
class Difference:
    """What a comparison found about one object."""

    name: str
    kind: Literal["exchange", "queue"]
    state: State
    detail: str

    @property
    def is_in_the_way(self) -> bool:
        """Whether the object must go before the worker can have what it needs."""
        return self.state in {"different", "left over"}


WAYS_OUT = (
    "either set AIMICROMIND_PREFIX to a new prefix; or stop the producers, let the workers that "
    "declared it run the queues empty, delete what differs, and start again"
)
"""What to do about an object whose arguments the broker will not change."""


class TopologyDiffers(Exception):
    """Objects exist on the broker with other arguments than the worker needs."""

    def __init__(self, findings: Sequence[Difference]) -> None:
        """Name each of them.

        Args:
            findings: Those that are different or left over.
        """
        each = "; ".join(f"{it.kind} {it.name} is {it.state} ({it.detail})" for it in findings)
        super().__init__(
            f"the broker has other objects than the worker needs: {each}. To go on, {WAYS_OUT}"
        )


class DeclarationRefused(Exception):
    """The broker's user may not declare an object."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"the broker's user may not declare {name} ({reason}): grant it configure, write "
            "and read on all names that begin with the prefix"
        )


class NoRoomForQueues(DeclarationRefused):
    """The virtual host may have no more queues."""

    def __init__(self, needed: int, reason: str) -> None:
        Exception.__init__(
            self,
            f"the broker declares no more queues ({reason}): raise that limit; an installation "
            f"needs {needed}, each worker two more, and one for each job that runs",
        )


class _MayNotDeclare(DeclarationRefused):
    """It may not be declared by this user; somebody else may have done so."""


def topology(
    names: Names,
    event_log: Retention | None,
    journal: Retention = JOURNAL_KEEPS,
    jobs_max_length: int = 0,
) -> Topology:
    """Return what is needed.

    Args:
        names: The names, from the prefix.
        event_log: What it keeps; None switches it off.
        journal: What the journal and the endings keep, each.
        jobs_max_length: Jobs that may wait; more are refused. 0: any number.
    """
    jobs = _quorum(_DELIVERIES, names.jobs_reaped)
    if jobs_max_length:
        jobs = {**jobs, "x-max-length": jobs_max_length}
    queues = [
        Queue(
            names.jobs_dead,
            {"x-queue-type": "quorum", "x-delivery-limit": _LOOKS, **_SPREAD},
            (Binding(names.jobs_dead, "#"),),
        ),
        Queue(
            names.jobs_reaped,
            _quorum(_LOOKS, names.jobs_dead),
            (Binding(names.jobs_reaped, "#"),),
        ),
        Queue(names.jobs, jobs, (Binding(names.jobs, "#"),)),
        *(_rung(names, delay) for delay in RETRY_DELAYS),
        Queue(
            names.journal,
            _stream(journal),
            tuple(Binding(names.events, key) for key in JOURNAL_BINDINGS),
        ),
        Queue(names.endings, _stream(journal), (Binding(names.events, "chat.*.end"),)),
        Queue(
            names.control_log,
            _stream(_CONTROL_LOG_KEEPS, _CONTROL_SEGMENT_BYTES),
            (Binding(names.control),),
        ),
    ]
    exchanges = [
        *map(Exchange, (names.events, names.jobs, names.jobs_reaped, names.jobs_dead)),
        Exchange(names.control, "fanout"),
        Exchange(names.pool, "fanout"),
    ]
    if event_log is not None:
        exchanges.append(Exchange(names.events_log, "direct", {"x-super-stream": True}))
        queues.append(_partition(names, event_log))
    return Topology(tuple(exchanges), tuple(queues), retired=(names.events_log,))


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


def _rung(names: Names, delay: timedelta) -> Queue:
    # Nothing is consumed from a rung, so that its delivery limit is never counted towards.
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


async def declare(connection: AbstractConnection, wanted: Topology) -> None:
    """Declare everything; what exists as wanted is left as it is.

    Where the user may not declare, and all is there, it is taken as somebody else declared it.

    Raises:
        TopologyDiffers: Objects exist with other arguments; all of them are named.
        DeclarationRefused: The user lacks a permission, and something is not there.
    """
    async with asyncio.timeout(_TIMEOUT_S):
        try:
            async with connection.channel() as channel:
                await _declare_all(channel, wanted)
        except ChannelPreconditionFailed as error:
            found = await compare(connection, wanted)
            in_the_way = [it for it in found if it.is_in_the_way]
            if not in_the_way:
                raise NoRoomForQueues(len(wanted.queues), _reason(error)) from error
            raise TopologyDiffers(in_the_way) from error
        except _MayNotDeclare:
            if not await _is_there(connection, wanted):
                raise
            log.warning("topology.not_compared", remedy=_COMPARE)
    unless_cancelled()


async def _declare_all(channel: AbstractChannel, wanted: Topology) -> None:
    for exchange in wanted.exchanges:
        with _named(exchange.name, _MayNotDeclare):
            await _declare_exchange(channel, exchange)
    for queue in wanted.queues:
        with _named(queue.name, _MayNotDeclare):
            declared = await _declare_queue(channel, queue)
        with _named(queue.name):
            for binding in queue.bindings:
                await declared.bind(binding.source, binding.key, arguments=dict(binding.arguments))


async def _is_there(connection: AbstractConnection, wanted: Topology) -> bool:
    try:
        async with connection.channel() as channel:
            for exchange in wanted.exchanges:
                await _declare_exchange(channel, exchange, passive=True)
            for queue in wanted.queues:
                await _declare_queue(channel, queue, passive=True)
    except ChannelNotFoundEntity:
        return False
    return True


async def compare(connection: AbstractConnection, wanted: Topology) -> list[Difference]:
    """Compare what exists with what is wanted; nothing is created.

    Bindings cannot be read over AMQP and are not compared. What is left over of an earlier
    version is found only where it is there.
    """
    findings = []
    async with asyncio.timeout(_TIMEOUT_S):
        for exchange in wanted.exchanges:
            state, detail = await _state(connection, partial(_declare_exchange, exchange=exchange))
            findings.append(Difference(exchange.name, "exchange", state, detail))
        for queue in wanted.queues:
            state, detail = await _state(connection, partial(_declare_queue, queue=queue))
            findings.append(Difference(queue.name, "queue", state, detail))
        for name in wanted.retired:
            state, _ = await _state(connection, partial(_declare_queue, queue=Queue(name, {})))
            if state in {"as expected", "different"}:
                findings.append(Difference(name, "queue", "left over", _LEFT_OVER))
    return findings


async def _state(
    connection: AbstractConnection, declare_one: Callable[..., Awaitable[object]]
) -> tuple[State, str]:
    # The broker closes a channel on which a declaration failed, so each look has its own.
    try:
        async with connection.channel() as channel:
            await declare_one(channel, passive=True)
        async with connection.channel() as channel:
            await declare_one(channel)
    except ChannelNotFoundEntity:
        return "missing", ""
    except ChannelPreconditionFailed as error:
        return "different", _reason(error)
    except ChannelAccessRefused as error:
        return "not compared", _reason(error)
    return "as expected", ""


async def _declare_exchange(
    channel: AbstractChannel, exchange: Exchange, *, passive: bool = False
) -> AbstractExchange:
    return await channel.declare_exchange(
        exchange.name,
        exchange.type,
        durable=True,
        passive=passive,
        arguments=dict(exchange.arguments),
    )


async def _declare_queue(
    channel: AbstractChannel, queue: Queue, *, passive: bool = False
) -> AbstractQueue:
    return await channel.declare_queue(
        queue.name,
        durable=True,
        passive=passive,
        arguments=dict(queue.arguments),
    )


@contextmanager
def _named(name: str, refused: type[DeclarationRefused] = DeclarationRefused) -> Iterator[None]:
    """Turn the broker's refusals into errors that name the object and the remedy."""
    try:
        yield
    except ChannelAccessRefused as error:
        raise refused(name, _reason(error)) from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())


async def remove(connection: AbstractConnection, unwanted: Topology) -> None:
    """Delete everything, with what is in it."""
    async with asyncio.timeout(_TIMEOUT_S), connection.channel() as channel:
        for queue in unwanted.queues:
            await channel.queue_delete(queue.name)
        for exchange in unwanted.exchanges:
            await channel.exchange_delete(exchange.name)
