"""Declare the exchanges, queues and streams that jobs and events go through, or compare them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Literal

import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractQueue
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed

from aimicromind_schemas import JOURNAL_BINDINGS, Names
from aimicromind_worker.adapters.patience import unless_cancelled
from aimicromind_worker.core.ladder import RUNGS

log = structlog.get_logger()

Argument = str | int
ExchangeType = Literal["topic", "fanout"]
State = Literal["as expected", "missing", "different", "not compared"]
_TIMEOUT_S = 20.0
_COMPARE = "run `aimicromind-worker topology check` as a user who may declare"
# Each look at a parked job counts as a delivery; the broker knows no "unlimited" on 3.10.
_LOOKS = 1_000_000
# Deliveries of a job before the broker gives it up, the same on all versions.
_DELIVERIES = 20
_JOURNAL_MAX_AGE = "7D"
_JOURNAL_MAX_BYTES = 2_000_000_000
# A cancel request is kept longer than any job lives.
_CONTROL_LOG_MAX_AGE = "7D"
_CONTROL_LOG_MAX_BYTES = 100_000_000
# Retention works on whole segments, so a segment must be small beside the limits.
_SEGMENT_BYTES = 50_000_000
_CONTROL_SEGMENT_BYTES = 5_000_000


@dataclass(frozen=True, slots=True)
class Exchange:
    """A durable exchange."""

    name: str
    type: ExchangeType = "topic"


@dataclass(frozen=True, slots=True)
class Queue:
    """A durable queue with its arguments, and the exchanges it is bound to."""

    name: str
    arguments: Mapping[str, Argument]
    bindings: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class Topology:
    """All that the worker needs on the broker."""

    exchanges: Sequence[Exchange]
    queues: Sequence[Queue]


@dataclass(frozen=True, slots=True)
class EventLog:
    """How much of the event log is kept for those who come late.

    Attributes:
        max_age: As the broker writes it, such as `24h`.
        max_bytes: Size of the whole log.
    """

    max_age: str
    max_bytes: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What a comparison found about one object."""

    name: str
    kind: Literal["exchange", "queue"]
    state: State
    detail: str


class TopologyDiffers(Exception):
    """An object exists on the broker with other arguments than the worker needs."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"{name} exists otherwise than the worker needs it ({reason}): delete it, or set "
            "AIMICROMIND_PREFIX to names of your own"
        )


class DeclarationRefused(Exception):
    """The broker's user may not declare an object."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"the broker's user may not declare {name} ({reason}): grant it configure, write "
            "and read on all names that begin with the prefix"
        )


class _MayNotDeclare(DeclarationRefused):
    """It may not be declared by this user; somebody else may have done so."""


def topology(names: Names, event_log: EventLog | None) -> Topology:
    """Say what is needed.

    Args:
        names: The names, from the prefix.
        event_log: Its limits; None switches it off.
    """
    queues = [
        Queue(
            names.jobs_dead,
            {"x-queue-type": "quorum", "x-delivery-limit": _LOOKS},
            ((names.jobs_dead, "#"),),
        ),
        Queue(names.jobs_reaped, _quorum(_LOOKS, names.jobs_dead), ((names.jobs_reaped, "#"),)),
        Queue(names.jobs, _quorum(_DELIVERIES, names.jobs_reaped), ((names.jobs, "#"),)),
        *(_rung(names, delay) for delay in RUNGS),
        Queue(
            names.journal,
            _stream(_JOURNAL_MAX_AGE, _JOURNAL_MAX_BYTES),
            tuple((names.events, key) for key in JOURNAL_BINDINGS),
        ),
        Queue(
            names.control_log,
            _stream(_CONTROL_LOG_MAX_AGE, _CONTROL_LOG_MAX_BYTES, _CONTROL_SEGMENT_BYTES),
            ((names.control, ""),),
        ),
    ]
    if event_log is not None:
        arguments = _stream(event_log.max_age, event_log.max_bytes)
        queues.append(Queue(names.events_log, arguments, ((names.events, "#"),)))
    topics = (names.events, names.jobs, names.jobs_reaped, names.jobs_dead)
    exchanges = (*map(Exchange, topics), Exchange(names.control, "fanout"))
    return Topology(exchanges, tuple(queues))


def _quorum(deliveries: int, dead_letters_to: str) -> Mapping[str, Argument]:
    return {
        "x-queue-type": "quorum",
        "x-delivery-limit": deliveries,
        "x-overflow": "reject-publish",
        "x-dead-letter-exchange": dead_letters_to,
        "x-dead-letter-strategy": "at-least-once",
    }


def _rung(names: Names, delay: timedelta) -> Queue:
    # Nothing is consumed from a rung, so that its delivery limit is never counted towards.
    arguments = _quorum(_DELIVERIES, names.jobs)
    ttl_ms = delay // timedelta(milliseconds=1)
    return Queue(names.jobs_delay(delay), {**arguments, "x-message-ttl": ttl_ms})


def _stream(
    max_age: str, max_bytes: int, segment_bytes: int = _SEGMENT_BYTES
) -> Mapping[str, Argument]:
    return {
        "x-queue-type": "stream",
        "x-max-age": max_age,
        "x-max-length-bytes": max_bytes,
        "x-stream-max-segment-size-bytes": min(segment_bytes, max_bytes),
    }


async def declare(connection: AbstractConnection, wanted: Topology) -> None:
    """Declare everything; what exists as wanted is left as it is.

    Where the user may not declare, and all is there, it is taken as somebody else declared it.

    Raises:
        TopologyDiffers: An object exists with other arguments.
        DeclarationRefused: The user lacks a permission, and something is not there.
    """
    async with asyncio.timeout(_TIMEOUT_S):
        try:
            async with connection.channel() as channel:
                await _declare_all(channel, wanted)
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
            for source, key in queue.bindings:
                await declared.bind(source, key)


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


async def compare(connection: AbstractConnection, wanted: Topology) -> list[Finding]:
    """Compare what exists with what is wanted; nothing is created.

    Bindings cannot be read over AMQP and are not compared.
    """
    findings = []
    async with asyncio.timeout(_TIMEOUT_S):
        for exchange in wanted.exchanges:
            state, detail = await _state(connection, partial(_declare_exchange, exchange=exchange))
            findings.append(Finding(exchange.name, "exchange", state, detail))
        for queue in wanted.queues:
            state, detail = await _state(connection, partial(_declare_queue, queue=queue))
            findings.append(Finding(queue.name, "queue", state, detail))
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
        exchange.name, exchange.type, durable=True, passive=passive
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
    except ChannelPreconditionFailed as error:
        raise TopologyDiffers(name, _reason(error)) from error
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
