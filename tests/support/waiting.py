"""The one way to wait for what nobody tells: another process, a socket, a counter."""

import asyncio
from collections.abc import Callable

from tests.support.amqp import WITHIN_S


async def until(holds: Callable[[], object], within_s: float = WITHIN_S) -> None:
    """Wait until something holds, looking every 20 ms.

    Raises:
        TimeoutError: It did not, in time.
    """
    async with asyncio.timeout(within_s):
        while not holds():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.02)
