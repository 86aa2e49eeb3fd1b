"""Kinds of locks: the worker's own chat lock, and queues that are declared in other ways.

Each has lockers, which take one lock after the other. Those of a connection share its socket. None
of the locks is asked for by two lockers: what a refusal costs is not measured.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from random import randrange
from typing import Any, Final, Protocol

from pamqp import commands
from pamqp.base import Frame

from aimicromind_schemas import Names
from aimicromind_worker.amqp.channels import highest_channel
from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.amqp.jobs.chat_lock import ChatLocks
from aimicromind_worker.amqp.rpc_channel import RpcChannel
from aimicromind_worker.core.chats.actions import LockAnswer

_EXPIRES_MS: Final = 60_000
# Few enough for the warm-up to declare all.
_CHATS_KEPT: Final = 10


class Locker(Protocol):
    """Takes one lock at a time."""

    async def lock(self, chat_id: str) -> None:
        """Take a lock that nobody holds."""

    async def unlock(self, chat_id: str) -> None:
        """Release the lock."""


OpenLockers = Callable[[BrokerConnection, Names, int], Awaitable[Sequence[Locker]]]


@dataclass(frozen=True, slots=True)
class LockKind:
    """A way to lock.

    Attributes:
        name: What the table calls it.
        open: Opens so many lockers on a connection.
        chats: How many chats each of them locks in turn; None for a new one each time.
    """

    name: str
    open: OpenLockers
    chats: int | None = None


@dataclass(frozen=True, slots=True)
class _Way:
    """How a queue is declared and deleted.

    Attributes:
        declare: Further properties of the declaration.
        consumes: Whether the queue gets a consumer; false: the lock has no mailbox.
        consume: Further properties of the consumer.
        at_once: Whether both are sent before the first is answered.
        deletes: Whether releasing deletes the queue; false: it only cancels the consumer.
        nowait: Whether the deletion asks for no answer.
        holding: On how many channels all lockers together consume and delete, at most.
        second_name: Whether a second queue, which does not exist, is deleted with the declaration.
    """

    declare: Mapping[str, Any] = field(default_factory=dict)
    consumes: bool = True
    consume: Mapping[str, Any] = field(default_factory=dict)
    at_once: bool = False
    deletes: bool = True
    nowait: bool = False
    holding: int = 16
    second_name: bool = False


class _Product:
    def __init__(self, locks: ChatLocks, names: Names) -> None:
        self._locks = locks
        self._names = names

    async def lock(self, chat_id: str) -> None:
        answer = await self._locks.lock(
            self._names.chat_lease(chat_id), lambda *_: None, lambda: None
        )
        assert answer is LockAnswer.GRANTED, answer

    async def unlock(self, chat_id: str) -> None:
        await self._locks.unlock(self._names.chat_lease(chat_id))


class _OfQueues:
    """Declares on a channel of its own and consumes on another, as the worker does."""

    def __init__(self, names: Names, channels: tuple[RpcChannel, RpcChannel], way: _Way) -> None:
        self._names = names
        self._asking, self._holding = channels
        self._way = way

    async def lock(self, chat_id: str) -> None:
        way, queue = self._way, self._names.chat_lease(chat_id)
        requests: list[Frame] = [commands.Queue.Declare(queue=queue, **way.declare)]
        if way.second_name:
            requests.append(commands.Queue.Delete(queue=f"{queue}.2"))
        consume = commands.Basic.Consume(
            queue=queue, consumer_tag=queue, no_ack=True, **way.consume
        )
        if way.at_once:
            requests.append(consume)
        await asyncio.gather(*(self._asking.ask(it) for it in requests))
        if way.consumes and not way.at_once:
            await self._holding.ask(consume)

    async def unlock(self, chat_id: str) -> None:
        way, queue = self._way, self._names.chat_lease(chat_id)
        channel = self._asking if way.at_once else self._holding
        requests: list[Frame] = []
        if way.consumes:
            requests.append(commands.Basic.Cancel(consumer_tag=queue, nowait=True))
        if way.deletes:
            requests.append(commands.Queue.Delete(queue=queue, nowait=way.nowait))
        if not way.deletes or way.nowait:
            # The answer tells that the broker has carried out what has none.
            requests.append(commands.Queue.Delete(queue=f"{queue}.none"))
        await channel.ask(*requests)


def _of_queues(way: _Way) -> OpenLockers:
    async def opened(connection: BrokerConnection, names: Names, lockers: int) -> Sequence[Locker]:
        numbers = iter(range(highest_channel(connection), 0, -1))
        held_on = min(lockers, way.holding)
        channels = [RpcChannel(connection.wire, next(numbers)) for _ in range(lockers + held_on)]
        for channel in channels:
            await channel.open()
        holding = cycle(channels[lockers:])
        return [
            _OfQueues(names, pair, way) for pair in zip(channels[:lockers], holding, strict=False)
        ]

    return opened


async def _product(connection: BrokerConnection, names: Names, lockers: int) -> Sequence[Locker]:
    return [_Product(await ChatLocks.open(connection), names)] * lockers


_CLASSIC: Final = {"x-queue-type": "classic"}
_EXCLUSIVE: Final[Mapping[str, Any]] = {"exclusive": True, "arguments": _CLASSIC}
_KEPT: Final[Mapping[str, Any]] = {
    "durable": True,
    "arguments": {**_CLASSIC, "x-expires": _EXPIRES_MS},
}
_QUORUM: Final[Mapping[str, Any]] = {
    "durable": True,
    # Another connection declares it with another number, and is refused (406).
    "arguments": {
        "x-queue-type": "quorum",
        "x-expires": _EXPIRES_MS,
        "x-max-length": randrange(1_000, 2**31),
    },
}
_SINGLE_ACTIVE: Final[Mapping[str, Any]] = {
    "durable": True,
    "arguments": {
        "x-queue-type": "quorum",
        "x-expires": _EXPIRES_MS,
        "x-single-active-consumer": True,
    },
}
_ALONE: Final = {"exclusive": True}

KINDS: Final = (
    LockKind("the worker's chat lock", _product),
    LockKind("one holding channel", _of_queues(_Way(_EXCLUSIVE, holding=1))),
    LockKind("four holding channels", _of_queues(_Way(_EXCLUSIVE, holding=4))),
    LockKind("sixteen holding channels", _of_queues(_Way(_EXCLUSIVE))),
    LockKind("sixteen, and a second name", _of_queues(_Way(_EXCLUSIVE, second_name=True))),
    LockKind("declare and consume at once", _of_queues(_Way(_EXCLUSIVE, at_once=True))),
    LockKind("deleted without an answer", _of_queues(_Way(_EXCLUSIVE, nowait=True))),
    LockKind("no consumer", _of_queues(_Way(_EXCLUSIVE, consumes=False))),
    LockKind(
        "auto-delete, only cancelled",
        _of_queues(_Way({**_EXCLUSIVE, "auto_delete": True}, deletes=False)),
    ),
    LockKind("durable", _of_queues(_Way({**_EXCLUSIVE, "durable": True}))),
    LockKind("exclusive consumer, deleted", _of_queues(_Way(_KEPT, consume=_ALONE))),
    LockKind(
        "exclusive consumer, queue kept",
        _of_queues(_Way(_KEPT, consume=_ALONE, deletes=False)),
        _CHATS_KEPT,
    ),
    LockKind("quorum queue, deleted", _of_queues(_Way(_QUORUM))),
    LockKind(
        "single active consumer, queue kept",
        _of_queues(_Way(_SINGLE_ACTIVE, deletes=False)),
        _CHATS_KEPT,
    ),
)
