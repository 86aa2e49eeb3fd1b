import asyncio

import pytest

from aimicromind_schemas.client.transport.cancelling import unless_cancelled


async def test_cancellation_that_comes_with_an_answer_is_not_lost() -> None:
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    went_on = False

    async def ask() -> None:
        nonlocal went_on
        await asyncio.wait_for(answer, 5)
        unless_cancelled()
        went_on = True

    asking = asyncio.create_task(ask())
    await asyncio.sleep(0)
    answer.set_result(None)
    asking.cancel()

    with pytest.raises(asyncio.CancelledError):
        await asking
    assert not went_on


async def test_task_that_nobody_cancelled_goes_on() -> None:
    unless_cancelled()
