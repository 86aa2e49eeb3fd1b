import asyncio

import pytest
from aiormq.base import FutureStore
from aiormq.exceptions import AMQPConnectionError

from aimicromind_worker.amqp.connection import give_closings_a_reason


async def test_what_waits_on_a_connection_that_closes_for_no_reason_fails_as_lost() -> None:
    give_closings_a_reason()
    give_closings_a_reason()
    store = FutureStore(asyncio.get_running_loop())
    call, answer = store.create_task(asyncio.sleep(60)), store.create_future()

    await store.reject_all(None)

    for waiting in (call, answer):
        with pytest.raises(AMQPConnectionError, match="closed"):
            await waiting


async def test_known_reason_stays() -> None:
    give_closings_a_reason()
    store = FutureStore(asyncio.get_running_loop())
    answer = store.create_future()

    await store.reject_all(ConnectionResetError("reset"))

    with pytest.raises(ConnectionResetError):
        await answer
