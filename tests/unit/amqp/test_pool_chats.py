"""A chat's second lock stands in for one that a broker keeps for a killed node, for no other."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from typing import Any, cast

import pytest
from aio_pika import Message
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import DeliveryError, PublishError
from pamqp import commands
from pamqp.header import ContentHeader

from aimicromind_schemas import Names
from aimicromind_worker.amqp.jobs.chat_lock import ChatLocks
from aimicromind_worker.amqp.jobs.pool_chats import PoolChats
from aimicromind_worker.core.chats.actions import LockAnswer

NAMES = Names()
FIRST, SECOND = NAMES.chat_lease("chat"), NAMES.chat_lease_instead("chat")
KHEPRI, MNESIA = (4, 3), (3, 10)


@dataclass
class Cluster:
    """The exclusive queues of a cluster.

    Attributes:
        owners: By queue, the worker whose connection has it.
        orphaned: Those that were left on a node that is down.
        on_turn: Called before each request is carried out.
    """

    owners: dict[str, str] = field(default_factory=dict)
    orphaned: set[str] = field(default_factory=set)
    on_turn: Callable[[], None] = lambda: None


@dataclass
class Worker:
    """The locks and the publisher of one worker."""

    cluster: Cluster
    name: str

    async def lock(self, queue: str, *_: object) -> LockAnswer:
        await self._turn()
        if self.cluster.owners.setdefault(queue, self.name) == self.name:
            return LockAnswer.GRANTED
        return LockAnswer.HELD

    async def unlock(self, queue: str) -> None:
        await self._turn()
        assert self.cluster.owners.pop(queue) == self.name

    async def publish(self, message: Message, _: str, queue: str) -> None:
        await self._turn()
        if queue not in self.cluster.owners:
            returned = commands.Basic.Return(312, "NO_ROUTE", "", queue)
            body = DeliveredMessage(returned, ContentHeader(), message.body, cast("Any", None))
            raise PublishError(body, returned)
        if queue in self.cluster.orphaned:
            raise DeliveryError(None, commands.Basic.Nack())

    async def _turn(self) -> None:
        await asyncio.sleep(0)
        self.cluster.on_turn()


def chats(cluster: Cluster, name: str, version: tuple[int, ...] = KHEPRI) -> PoolChats:
    worker = cast("Any", Worker(cluster, name))
    return PoolChats(cast("ChatLocks", worker), worker, NAMES, name, version)


async def locked(of: PoolChats) -> LockAnswer:
    return await of.lock("chat", lambda *_: None, lambda: None)


async def test_chat_of_a_killed_node_is_locked_by_its_second_lock() -> None:
    cluster = Cluster({FIRST: "dead"}, {FIRST})
    mine, theirs = chats(cluster, "mine"), chats(cluster, "theirs")

    assert await locked(mine) is LockAnswer.HELD
    assert not await mine.tell_holder("chat", b"{}")
    assert await locked(mine) is LockAnswer.GRANTED
    assert await theirs.tell_holder("chat", b"{}")
    assert await locked(theirs) is LockAnswer.HELD
    await mine.unlock("chat")

    assert await locked(theirs) is LockAnswer.GRANTED


async def test_waiting_worker_tells_the_holder_of_the_second_lock() -> None:
    cluster = Cluster({FIRST: "dead", SECOND: "other"}, {FIRST})

    assert await chats(cluster, "mine").tell_holder("chat", b"{}")


async def test_first_lock_is_not_taken_while_the_second_is_held() -> None:
    cluster = Cluster({SECOND: "other"})
    mine = chats(cluster, "mine")

    assert await locked(mine) is LockAnswer.HELD
    assert await mine.tell_holder("chat", b"{}")
    assert cluster.owners == {SECOND: "other"}
    del cluster.owners[SECOND]
    assert await locked(mine) is LockAnswer.GRANTED


async def test_nobody_asks_without_end_where_both_locks_are_orphaned() -> None:
    cluster = Cluster({FIRST: "dead", SECOND: "dead, too"}, {FIRST, SECOND})
    mine = chats(cluster, "mine")

    assert await locked(mine) is LockAnswer.HELD
    assert await mine.tell_holder("chat", b"{}")


@pytest.mark.parametrize("version", [KHEPRI, MNESIA])
async def test_chat_that_nobody_holds_is_locked_by_its_first_lock(version: tuple[int, int]) -> None:
    cluster = Cluster()
    mine = chats(cluster, "mine", version)

    assert not await mine.tell_holder("chat", b"{}")
    assert await locked(mine) is LockAnswer.GRANTED
    assert cluster.owners == {FIRST: "mine"}
    await mine.unlock("chat")
    assert cluster.owners == {}


@pytest.mark.parametrize(("back_at", "late"), list(product(range(1, 8), range(8))))
async def test_two_workers_never_hold_a_chat_whenever_the_node_returns(
    back_at: int, late: int
) -> None:
    cluster = Cluster({FIRST: "dead"}, {FIRST})
    mine, theirs = chats(cluster, "mine"), chats(cluster, "theirs")
    await mine.tell_holder("chat", b"{}")
    turns = 0

    def node_returns() -> None:
        nonlocal turns
        turns += 1
        if turns == back_at:
            cluster.owners.pop(FIRST, None)
            cluster.orphaned.clear()

    cluster.on_turn = node_returns

    async def ask_late() -> LockAnswer:
        for _ in range(late):
            await asyncio.sleep(0)
        return await locked(theirs)

    answers = await asyncio.gather(locked(mine), ask_late())

    assert answers.count(LockAnswer.GRANTED) <= 1
