"""One worker at a time holds a chat, and is told: the fake of the port and the real one."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.connection import connect, version_of
from aimicromind_worker.amqp.jobs.chat_lock import ChatLocks
from aimicromind_worker.amqp.jobs.pool_chats import PoolChats
from aimicromind_worker.core.chats.actions import LockAnswer
from aimicromind_worker.jobs.ports import Chats
from tests.integration.outgoing import publishing_at
from tests.support.amqp import BEAT, WITHIN_S, delete_queue
from tests.support.fakes import FakeChats, FakePool
from tests.support.waiting import until


@dataclass
class Pool:
    """Two workers.

    Attributes:
        ours: The chats as our worker reaches them.
        theirs: The chats as the other one does.
        take_away: Takes a lock of ours away, as the broker may.
    """

    ours: Chats
    theirs: Chats
    take_away: Callable[[str], Awaitable[None]]


@asynccontextmanager
async def fake_pool() -> AsyncIterator[Pool]:
    pool = FakePool()
    ours, theirs = FakeChats(pool, 1), FakeChats(pool, 2)

    async def take_away(chat: str) -> None:
        ours.take_away(chat)

    yield Pool(ours, theirs, take_away)


@asynccontextmanager
async def real_pool(broker: PrivateBroker, names: Names) -> AsyncIterator[Pool]:
    async with (
        connect([broker.url], "a", BEAT) as one,
        connect([broker.url], "b", BEAT) as two,
        publishing_at(broker.url, names) as way,
    ):
        version = version_of(one)
        ours = PoolChats(await ChatLocks.open(one), way.publishing, names, "ours", version)
        theirs = PoolChats(await ChatLocks.open(two), way.publishing, names, "theirs", version)

        async def take_away(chat: str) -> None:
            await delete_queue(one, names.chat_lease(chat))

        yield Pool(ours, theirs, take_away)


@pytest_asyncio.fixture(params=["fake", "real"])
async def pool(
    request: pytest.FixtureRequest, broker: PrivateBroker, declared: Names
) -> AsyncIterator[Pool]:
    made = fake_pool() if request.param == "fake" else real_pool(broker, declared)
    async with made as ready:
        yield ready


async def locked(chats: Chats, chat: str) -> LockAnswer:
    return await chats.lock(chat, lambda *_: None, lambda: None)


async def test_chat_that_another_worker_holds_is_not_given(pool: Pool) -> None:
    await locked(pool.theirs, "chat")

    assert {await locked(pool.ours, "chat") for _ in range(3)} == {LockAnswer.HELD}
    assert await locked(pool.ours, "another") is LockAnswer.GRANTED

    await pool.theirs.unlock("chat")
    assert await locked(pool.ours, "chat") is LockAnswer.GRANTED


async def test_holder_is_told_when_its_chat_is_taken_away(pool: Pool) -> None:
    told = asyncio.Event()
    await pool.ours.lock("chat", lambda *_: None, told.set)

    await pool.take_away("chat")

    await asyncio.wait_for(told.wait(), WITHIN_S)
    assert await locked(pool.ours, "chat") is LockAnswer.GRANTED


async def test_holder_gets_what_others_tell_it_in_order(pool: Pool) -> None:
    told: list[bytes] = []
    await pool.ours.lock("chat", lambda body, _: told.append(body), lambda: None)

    messages = [b"first", b"x" * 60_000, b"last"]
    for message in messages:
        assert await pool.theirs.tell_holder("chat", message)

    await until(lambda: told == messages)


async def test_message_to_a_chat_that_nobody_holds_comes_back(pool: Pool) -> None:
    assert not await pool.theirs.tell_holder("chat", b"anybody?")

    await locked(pool.ours, "chat")
    assert await pool.theirs.tell_holder("chat", b"anybody?")
    await pool.ours.unlock("chat")

    assert not await pool.theirs.tell_holder("chat", b"anybody?")
