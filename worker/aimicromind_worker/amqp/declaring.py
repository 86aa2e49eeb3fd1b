"""Declare exchanges, queues and streams, compare them with what exists, or delete them."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange, AbstractQueue
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed

from aimicromind_schemas.client.transport.cancelling import unless_cancelled
from aimicromind_worker.amqp.differences import Difference, State, TopologyDiffers
from aimicromind_worker.amqp.partitions import other_partitions
from aimicromind_worker.amqp.topology import Exchange, Queue, Topology

log = structlog.get_logger()

_TIMEOUT_S = 20.0
_COMPARE = "run `aimicromind-worker topology check` as a user who may declare"
_LEFT_OVER = "an earlier version declared it, and it still takes every event"


class DeclarationRefused(Exception):
    """The broker's user may not declare an object."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(
            f"the broker's user may not declare {name} ({reason}): grant it configure, write "
            "and read on all names that begin with the prefix"
        )


class QueueLimitReached(DeclarationRefused):
    """The limit of queues in the virtual host is reached."""

    def __init__(self, needed: int, reason: str) -> None:
        Exception.__init__(
            self,
            f"the broker declares no more queues ({reason}): raise that limit; an installation "
            f"needs {needed}, each worker two more, and one for each job that runs",
        )


class _MayNotDeclare(DeclarationRefused):
    """This user may not declare an object, which another user may have declared before."""


async def declare(connection: AbstractConnection, wanted: Topology) -> None:
    """Declare all exchanges, queues, streams and bindings; existing ones stay as they are.

    Bindings that earlier versions made and this one does not want are removed.

    A user without permission to declare needs all objects to exist. Their arguments are then not
    compared, with a warning in the log.

    Raises:
        TopologyDiffers: Objects exist with other arguments, or the event log has another number of
            partitions; all of them are named.
        QueueLimitReached: The virtual host may have no more queues.
        DeclarationRefused: The user lacks a permission, and an object is missing.
        TimeoutError: The broker did not answer within 20 s.
    """
    async with asyncio.timeout(_TIMEOUT_S):
        if await other_partitions(connection, wanted):
            found = await compare(connection, wanted)
            raise TopologyDiffers([it for it in found if it.is_in_the_way])
        try:
            async with connection.channel() as channel:
                await _declare_all(channel, wanted)
        except ChannelPreconditionFailed as error:
            found = await compare(connection, wanted)
            in_the_way = [it for it in found if it.is_in_the_way]
            if not in_the_way:
                raise QueueLimitReached(len(wanted.queues), _reason(error)) from error
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
            for binding in queue.unbound:
                await declared.unbind(binding.source, binding.key)


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
    """Compare the objects on the broker with those that are wanted.

    An event log with another number of partitions is one difference. Bindings cannot be read over
    AMQP and are not compared. Retired queues of earlier versions are reported only if they exist.

    Raises:
        TimeoutError: The broker did not answer within 20 s.
    """
    findings = []
    async with asyncio.timeout(_TIMEOUT_S):
        others = await other_partitions(connection, wanted)
        of_log = wanted.event_log.streams() if wanted.event_log and others else []
        for exchange in wanted.exchanges:
            state, detail = await _state(connection, partial(_declare_exchange, exchange=exchange))
            findings.append(Difference(exchange.name, "exchange", state, detail))
        for queue in wanted.queues:
            if queue.name in of_log:
                continue
            state, detail = await _state(connection, partial(_declare_queue, queue=queue))
            findings.append(Difference(queue.name, "queue", state, detail))
        for name in wanted.retired:
            state, _ = await _state(connection, partial(_declare_queue, queue=Queue(name, {})))
            if state in {"as expected", "different"}:
                findings.append(Difference(name, "queue", "left over", _LEFT_OVER))
    return [*findings, *others]


async def _state(
    connection: AbstractConnection, declare_one: Callable[..., Awaitable[object]]
) -> tuple[State, str]:
    # The broker closes a channel on which a declaration failed: each declaration has its own.
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
    """Turn the broker's refusals in the body into errors that name the object and the remedy."""
    try:
        yield
    except ChannelAccessRefused as error:
        raise refused(name, _reason(error)) from error


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())


async def remove(connection: AbstractConnection, unwanted: Topology) -> None:
    """Delete all queues, with their messages, and all exchanges.

    Raises:
        TimeoutError: The broker did not answer within 20 s.
    """
    async with asyncio.timeout(_TIMEOUT_S), connection.channel() as channel:
        for queue in unwanted.queues:
            await channel.queue_delete(queue.name)
        for exchange in unwanted.exchanges:
            await channel.exchange_delete(exchange.name)
