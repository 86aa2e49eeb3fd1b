"""What comes and goes on a connection that stays leaves nothing in memory."""

import asyncio
import gc

from tests.integration.client.stage import client_of
from tests.integration.journals import a_journal
from tests.integration.stage import Stage
from tests.integration.wire import Wire

_TIMES = 60


def _futures() -> int:
    gc.collect()
    return sum(isinstance(it, asyncio.Future) for it in gc.get_objects())


async def test_followers_that_left_leave_nothing(stage: Stage) -> None:
    async with stage.working(), client_of(stage) as client:

        async def follow() -> None:
            async with client.follow(chat_id="chat", from_start=True):
                pass

        await follow()
        before = _futures()
        for _ in range(_TIMES):
            await follow()

        assert _futures() < before + _TIMES


async def test_look_ups_in_the_journal_leave_nothing(wire: Wire) -> None:
    async with wire.publishing() as way:
        journal = a_journal(wire.connection, way, wire.names)
        await journal.look_up("job", None)
        before = _futures()
        for number in range(_TIMES):
            await journal.look_up(f"job-{number}", None)

        assert _futures() < before + _TIMES
