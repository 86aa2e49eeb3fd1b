"""Share the event loop among followers that read what they missed.

Each reads hundreds of events without a wait. If thousands did so in one round of the event loop, it
would not look at its sockets for seconds.
"""

import asyncio
from collections import deque
from typing import Final

_AT_A_TIME: Final = 4


class Rounds:
    """Lets a few of those who wait go on in each round of the event loop, in their order."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._is_due = False

    async def turn(self) -> None:
        """Wait for one's turn."""
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(turn)
        if not self._is_due:
            self._is_due = True
            loop.call_soon(self._next)
        await turn

    def _next(self) -> None:
        for _ in range(min(_AT_A_TIME, len(self._waiting))):
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
        self._is_due = bool(self._waiting)
        if self._is_due:
            asyncio.get_running_loop().call_soon(self._next)
