import asyncio
from contextlib import AsyncExitStack
from datetime import timedelta

import pytest

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.channels import LEAST
from aimicromind_worker.amqp.connection import connect
from aimicromind_worker.amqp.jobs.chat_lock import ChatLocks, ChatLocksLost
from tests.integration.wire import Wire
from tests.support.amqp import BEAT, exists
from tests.support.proxy import Proxy
from tests.support.waiting import until

AT_ONCE = timedelta()
PATIENT = timedelta(seconds=10)


async def test_many_refusals_at_once_cost_no_connection(wire: Wire) -> None:
    chats = [f"chat-{number}" for number in range(32)]
    async with connect([wire.broker.url], "other", BEAT) as other, AsyncExitStack() as holding:
        theirs = await ChatLocks.open(other, wire.names)
        for chat in chats:
            assert await holding.enter_async_context(theirs.hold(chat, AT_ONCE)) is not None
        mine = await ChatLocks.open(wire.connection, wire.names)

        async def asked(chat: str) -> bool:
            async with mine.hold(chat, timedelta(seconds=2)) as chat_lock:
                return chat_lock is not None

        assert await asyncio.gather(*map(asked, chats)) == [False] * len(chats)
        async with mine.hold("free", AT_ONCE) as chat_lock:
            assert chat_lock is not None


async def test_broker_that_grants_few_channels_still_grants_leases() -> None:
    names, chats = Names("few"), [f"chat-{number}" for number in range(32)]
    async with (
        PrivateBroker(settings={"channel_max": str(LEAST)}) as broker,
        connect([broker.url], "mine", BEAT) as connection,
        connect([broker.url], "other", BEAT) as other,
    ):
        mine, theirs = await ChatLocks.open(connection, names), await ChatLocks.open(other, names)

        async def asked(chat_locks: ChatLocks, chat: str) -> bool:
            async with chat_locks.hold(chat, AT_ONCE) as chat_lock:
                return chat_lock is not None

        async with mine.hold("chat", AT_ONCE):
            assert not any(await asyncio.gather(*(asked(theirs, "chat") for _ in range(32))))
            assert all(await asyncio.gather(*(asked(theirs, chat) for chat in chats)))
            # What else a worker needs, beside the leases' two.
            for _ in range(LEAST - 2):
                await other.channel()


async def test_lease_ends_with_its_connection(wire: Wire) -> None:
    mine = await ChatLocks.open(wire.connection, wire.names)
    async with connect([wire.broker.url], "other", BEAT) as other:
        theirs = await ChatLocks.open(other, wire.names)
        holding = AsyncExitStack()
        await holding.enter_async_context(theirs.hold("chat", AT_ONCE))
        asking = asyncio.create_task(_held(mine))

        await other.close()

        assert await asking
        with pytest.raises(ChatLocksLost):
            await holding.aclose()


async def test_lease_leaves_nothing_and_its_end_is_no_loss(wire: Wire) -> None:
    chat_locks = await ChatLocks.open(wire.connection, wire.names)
    lost: list[str] = []
    for number in range(50):
        chat = f"chat {number}"
        async with chat_locks.hold(chat, AT_ONCE) as chat_lock:
            assert chat_lock is not None
            chat_lock.on_loss = lambda: lost.append("lost")
        assert not await exists(wire.connection, wire.names.chat_lease(chat))

    assert not lost


async def _held(chat_locks: ChatLocks) -> bool:
    async with chat_locks.hold("chat", PATIENT) as chat_lock:
        return chat_lock is not None


async def test_lease_is_lost_where_the_connection_has_closed(wire: Wire) -> None:
    async with connect([wire.broker.url], "closed", BEAT) as closed:
        chat_locks = await ChatLocks.open(closed, wire.names)

    with pytest.raises(ChatLocksLost):
        async with chat_locks.hold("chat", AT_ONCE):
            pass


async def test_leases_that_are_asked_for_are_lost_with_the_connection(wire: Wire) -> None:
    chats = [f"chat-{number}" for number in range(32)]
    async with AsyncExitStack() as holding, Proxy(wire.broker.port) as between:
        theirs = await ChatLocks.open(wire.connection, wire.names)
        for chat in chats:
            await holding.enter_async_context(theirs.hold(chat, AT_ONCE))
        async with connect([between.url], "asking", BEAT) as asking:
            mine = await ChatLocks.open(asking, wire.names)

            async def ask(chat: str) -> None:
                async with mine.hold(chat, timedelta(seconds=30)):
                    pass

            asked = asyncio.gather(*map(ask, chats), return_exceptions=True)
            enough = asking.wire.heard + 32
            await until(lambda: asking.wire.heard >= enough)
            asking.wire.abort()

            assert {type(each) for each in await asked} == {ChatLocksLost}
