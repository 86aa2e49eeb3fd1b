"""Count what waits on the broker, without taking a job: messages of queues, dead letters by kind.

A look at a job counts as a delivery, of which there is a limit. Thus the queue of jobs and the
delay queues are only declared passively. Dead letters are read: their limit is 1,000,000 looks.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from time import monotonic
from typing import Final, NamedTuple

from aio_pika.abc import AbstractQueue
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity

from aimicromind_schemas import FailureKind
from aimicromind_worker.amqp.connection import BrokerConnection, PermissionMissing

MOST_READ: Final = 1_000
"""Dead letters that are read at a time."""
OTHER_KIND: Final = "other"
"""The kind of a dead letter without a kind that is known."""
_TIMEOUT_S: Final = 30.0
_MOST_BYTES: Final = 64 * 1024 * 1024
_MOST_TIME_S: Final = 5.0
_KIND: Final = "x-aimicromind-kind"
_KINDS: Final = frozenset(FailureKind)


class QueueCounts(NamedTuple):
    """What the broker tells of a queue without a permission.

    Attributes:
        ready: Messages that no consumer has.
        consumers: Its consumers.
    """

    ready: int
    consumers: int


@dataclass(frozen=True, slots=True)
class DeadByKind:
    """Dead letters by kind.

    Attributes:
        total: All in the queue.
        read: Those that were read, the oldest ones.
        by_kind: The number of each kind, of those that were read.
    """

    total: int
    read: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)


async def counts_of(connection: BrokerConnection, queue: str) -> QueueCounts | None:
    """Return the numbers of a queue; None if there is no such queue.

    Raises:
        PermissionMissing: The broker refuses it; RabbitMQ 3.10 asks for no permission.
        TimeoutError: The broker did not answer within 30 s.
    """
    async with asyncio.timeout(_TIMEOUT_S), connection.channel() as channel:
        try:
            found = await channel.declare_queue(queue, passive=True)
        except ChannelNotFoundEntity:
            return None
        except ChannelAccessRefused as error:
            raise PermissionMissing(str(error)) from error
        told = found.declaration_result
        return QueueCounts(told.message_count or 0, told.consumer_count or 0)


async def dead_by_kind(connection: BrokerConnection, queue: str, total: int) -> DeadByKind:
    """Read at most the oldest 1,000 dead letters, 64 MiB or 5 s of them, and count their kinds.

    Other readers do not see them meanwhile. The broker requeues all at their original positions.

    Args:
        connection: The connection; the channel is closed at the end.
        queue: The dead-letter queue.
        total: The number of messages in it.

    Raises:
        ChannelAccessRefused: The user may not read the queue.
        TimeoutError: The broker did not answer within 30 s.
    """
    kinds: Counter[str] = Counter()
    read = size_bytes = 0
    until_s = monotonic() + _MOST_TIME_S
    async with connection.channel() as channel:
        source = await channel.get_queue(queue, ensure=False)
        while read < min(total, MOST_READ) and size_bytes < _MOST_BYTES and monotonic() < until_s:
            found = await _kind_of_next(source)
            if found is None:
                break
            kind, body_bytes = found
            kinds[kind] += 1
            read += 1
            size_bytes += body_bytes
    return DeadByKind(max(total, read), read, kinds)


async def _kind_of_next(queue: AbstractQueue) -> tuple[str, int] | None:
    async with asyncio.timeout(_TIMEOUT_S):
        message = await queue.get(fail=False)
    if message is None:
        return None
    kind = message.headers.get(_KIND)
    known = isinstance(kind, str) and kind in _KINDS
    return (str(kind) if known else OTHER_KIND), len(message.body)
