"""One worker at a time holds a chat: the fake of the port and the real one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta

import pytest
import pytest_asyncio
from aio_pika.abc import AbstractConnection

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.connection import connect
from aimicromind_worker.amqp.jobs.chat_lock import ChatLocks
from aimicromind_worker.jobs.ports import Chats
from tests.support.amqp import BEAT, WITHIN_S, delete_queue
from tests.support.fakes import FakeChatLocks

AT_ONCE = timedelta()


@dataclass
class Pool:
    """Two workers, one of which is ours.

    Attributes:
        elsewhere: Holds a chat at the other one for the body.
        take_away: Ends what we hold, as the broker may.
    """

    ours: Chats
    elsewhere: Callable[[str], AbstractAsyncContextManager[object]]
    take_away: Callable[[str], Awaitable[None]]


@asynccontextmanager
async def fake_pool() -> AsyncIterator[Pool]:
    leases = FakeChatLocks()

    @asynccontextmanager
    async def elsewhere(chat: str) -> AsyncIterator[object]:
        leases.held_elsewhere.add(chat)
        yield leases
        leases.held_elsewhere.remove(chat)

    async def take_away(chat: str) -> None:
        leases.held[chat].on_loss()

    yield Pool(leases, elsewhere, take_away)


@asynccontextmanager
async def real_pool(broker: PrivateBroker, names: Names) -> AsyncIterator[Pool]:
    async with connect([broker.url], "a", BEAT) as one, connect([broker.url], "b", BEAT) as two:
        ours, theirs = await ChatLocks.open(one, names), await ChatLocks.open(two, names)

        async def take_away(chat: str) -> None:
            await delete_queue(one, names.chat_lease(chat))

        yield Pool(ours, lambda chat: theirs.hold(chat, AT_ONCE), take_away)


@pytest_asyncio.fixture(params=["fake", "real"])
async def pool(
    request: pytest.FixtureRequest,
    broker: PrivateBroker,
    declared: Names,
    connection: AbstractConnection,
) -> AsyncIterator[Pool]:
    made = fake_pool() if request.param == "fake" else real_pool(broker, declared)
    async with made as ready:
        yield ready


async def test_chat_that_another_worker_holds_is_not_given(pool: Pool) -> None:
    async with pool.elsewhere("chat"):
        for _ in range(3):
            async with pool.ours.hold("chat", AT_ONCE) as refused:
                assert refused is None
        async with pool.ours.hold("another", AT_ONCE) as other:
            assert other is not None

    async with pool.ours.hold("chat", AT_ONCE) as free_again:
        assert free_again is not None


async def test_fault_of_the_holder_frees_the_chat(pool: Pool) -> None:
    with pytest.raises(ZeroDivisionError):
        async with pool.ours.hold("chat", AT_ONCE):
            raise ZeroDivisionError

    async with pool.elsewhere("chat") as held:
        assert held is not None
    async with pool.ours.hold("chat", AT_ONCE) as again:
        assert again is not None


async def test_holder_is_told_when_its_chat_is_taken_away(pool: Pool) -> None:
    told = asyncio.Event()
    async with pool.ours.hold("chat", AT_ONCE) as held:
        assert held is not None
        held.on_loss = told.set

        await pool.take_away("chat")

        await asyncio.wait_for(told.wait(), WITHIN_S)
    async with pool.ours.hold("chat", AT_ONCE) as again:
        assert again is not None
