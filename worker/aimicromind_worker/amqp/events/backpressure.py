"""Make attempts wait while the window is full, and resume them one after the other."""

import asyncio
from collections import deque


class Backpressure:
    """Whether the window is full, and who waits for that to end. Use it from the event loop only.

    Waking all at once would cost a turn of the loop for each, and the first may fill it again.

    Attributes:
        is_full: Whether nothing more should be published now.
    """

    def __init__(self) -> None:
        self.is_full = False
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[asyncio.Future[None]] = deque()

    def fill(self) -> None:
        """Make all callers of `wait` wait from now on."""
        self.is_full = True

    def reopen(self) -> None:
        """Release the waiting callers, first come, first served, until it is full again."""
        self.is_full = False
        self._wake_next()

    async def wait(self) -> None:
        """Wait until the window is not full."""
        while self.is_full:
            turn = self._loop.create_future()
            self._waiting.append(turn)
            try:
                await turn
            finally:
                # The next one follows once this one, if it goes on, has published what it had.
                self._loop.call_soon(self._wake_next)

    def _wake_next(self) -> None:
        while self._waiting and not self.is_full:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
