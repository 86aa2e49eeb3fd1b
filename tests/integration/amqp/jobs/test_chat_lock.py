"""The lock of a chat is an exclusive queue of the broker."""

import asyncio

import pytest

from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.channels import LEAST
from aimicromind_worker.amqp.connection import connect
from aimicromind_worker.amqp.jobs.chat_lock import ChatLocks, ChatLocksLost
from aimicromind_worker.core.chats.actions import LockAnswer
from tests.integration.wire import Wire
from tests.support.amqp import BEAT, WITHIN_S, exists
from tests.support.proxy import Proxy
from tests.support.waiting import until

GRANTED = LockAnswer.GRANTED


async def asked(chat_locks: ChatLocks, chat: str) -> LockAnswer:
    """Ask for a lock that nobody writes to."""
    return await chat_locks.lock(f"lock.{chat}", lambda *_: None, lambda: None)


async def test_many_refusals_at_once_cost_no_connection(wire: Wire) -> None:
    chats = [f"chat-{number}" for number in range(32)]
    async with connect([wire.broker.url], "other", BEAT) as other:
        theirs = await ChatLocks.open(other)
        for chat in chats:
            assert await asked(theirs, chat) is GRANTED
        mine = await ChatLocks.open(wire.connection)

        answers = await asyncio.gather(*(asked(mine, chat) for chat in chats * 5))

        assert set(answers) == {LockAnswer.HELD}
        assert await asked(mine, "free") is GRANTED


async def test_broker_that_grants_few_channels_still_grants_locks() -> None:
    chats = [f"chat-{number}" for number in range(32)]
    async with (
        PrivateBroker(settings={"channel_max": str(LEAST)}) as broker,
        connect([broker.url], "mine", BEAT) as connection,
        connect([broker.url], "other", BEAT) as other,
    ):
        mine, theirs = await ChatLocks.open(connection), await ChatLocks.open(other)

        assert await asked(mine, "chat") is GRANTED
        refused = await asyncio.gather(*(asked(theirs, "chat") for _ in range(32)))
        granted = await asyncio.gather(*(asked(theirs, chat) for chat in chats))
        assert (set(refused), set(granted)) == ({LockAnswer.HELD}, {GRANTED})
        # What else a worker needs, beside the two of chat locks.
        for _ in range(LEAST - 2):
            await other.channel()


async def test_lock_ends_with_its_connection(wire: Wire) -> None:
    mine = await ChatLocks.open(wire.connection)
    async with connect([wire.broker.url], "other", BEAT) as other:
        theirs = await ChatLocks.open(other)
        assert await asked(theirs, "chat") is GRANTED
        assert await asked(mine, "chat") is LockAnswer.HELD

        await other.close()

        async with asyncio.timeout(WITHIN_S):
            while await asked(mine, "chat") is not GRANTED:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.02)
        with pytest.raises(ChatLocksLost):
            await theirs.unlock("lock.chat")


async def test_lock_leaves_nothing_and_its_end_is_no_loss(wire: Wire) -> None:
    chat_locks = await ChatLocks.open(wire.connection)
    lost: list[str] = []
    for number in range(50):
        chat = f"chat {number}"
        lock = wire.names.chat_lease(chat)
        answer = await chat_locks.lock(lock, lambda *_: None, lambda: lost.append("lost"))
        assert answer is GRANTED
        await chat_locks.unlock(lock)
        assert not await exists(wire.connection, lock)

    assert not lost


async def test_lock_is_lost_where_the_connection_has_closed(wire: Wire) -> None:
    async with connect([wire.broker.url], "closed", BEAT) as closed:
        chat_locks = await ChatLocks.open(closed)

    with pytest.raises(ChatLocksLost):
        await asked(chat_locks, "chat")


async def test_locks_that_are_asked_for_are_lost_with_the_connection(wire: Wire) -> None:
    chats = [f"chat-{number}" for number in range(32)]
    async with Proxy(wire.broker.port) as between:
        theirs = await ChatLocks.open(wire.connection)
        for chat in chats:
            await asked(theirs, chat)
        async with connect([between.url], "asking", BEAT) as asking:
            mine = await ChatLocks.open(asking)

            async def ask_for_ever(chat: str) -> None:
                while await asked(mine, chat) is LockAnswer.HELD:
                    pass

            asking_all = asyncio.gather(*map(ask_for_ever, chats), return_exceptions=True)
            enough = asking.wire.heard + 32
            await until(lambda: asking.wire.heard >= enough)
            asking.wire.abort()

            assert {type(each) for each in await asking_all} == {ChatLocksLost}
