"""Hold what came for one follower until it asks for it, within limits.

Invariants:

- Deliveries are returned in the order in which they came, each once.
- A delivery beyond the limits is missed, and so is all that comes after it, until the follower
  begins again. The follower learns of it behind the deliveries that came before.
- Each `end` is kept, also while others are missed: within the same limits, the latest first. One
  who follows a single job gets no other `end`.
"""

import asyncio
from collections import OrderedDict, deque
from typing import Final

from aimicromind_schemas.client.delivery import Delivery
from aimicromind_schemas.vocabulary import TERMINAL

MOST_MESSAGES: Final = 1000
"""Messages that wait for a follower. At 20 a second, it may be stuck for 50 s."""
MOST_BYTES: Final = 4 * 1024 * 1024
"""Bytes of them."""


class Buffer:
    """The deliveries of one follower, which alone takes them."""

    def __init__(self, most_messages: int = MOST_MESSAGES, most_bytes: int = MOST_BYTES) -> None:
        """Begin empty.

        Args:
            most_messages: Messages that it holds.
            most_bytes: Bytes that they may have; a single message may have more.
        """
        self._limits = (most_messages, most_bytes)
        self._deliveries: deque[Delivery] = deque()
        self._bytes = 0
        self._ends: OrderedDict[str, Delivery] = OrderedDict()
        self._ends_bytes = 0
        self._is_missing = False
        self._waiting: asyncio.Future[None] | None = None
        self._taken: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._deliveries)

    @property
    def is_missing(self) -> bool:
        """Whether something was missed since the follower began."""
        return self._is_missing

    @property
    def is_full(self) -> bool:
        """Whether a further delivery might be missed."""
        messages, size_bytes = self._limits
        return len(self._deliveries) >= messages or self._bytes >= size_bytes

    def put(self, delivery: Delivery) -> None:
        """Add a delivery, or miss it."""
        if not self._is_missing and self._fits(delivery):
            self._deliveries.append(delivery)
            self._bytes += delivery.size_bytes
            _wake(self._waiting)
            return
        self.miss()
        if delivery.labels.type in TERMINAL:
            self._keep(delivery)

    def miss(self) -> None:
        """Remember that deliveries are missed from now on."""
        self._is_missing = True
        _wake(self._waiting)

    def begin_again(self) -> list[Delivery]:
        """Hold deliveries again, and return each `end` that came meanwhile."""
        ends = list(self._ends.values())
        self._ends.clear()
        self._ends_bytes = 0
        self._is_missing = False
        return ends

    def first(self) -> Delivery | None:
        """Return the delivery that `next` would return without a wait; None if there is none."""
        return self._deliveries[0] if self._deliveries else None

    async def next(self) -> Delivery | None:
        """Wait for the next delivery.

        Returns:
            None where deliveries were missed.
        """
        while not self._deliveries:
            if self._is_missing:
                return None
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return self.take()

    def take(self) -> Delivery:
        """Return the next delivery, which is there."""
        delivery = self._deliveries.popleft()
        self._bytes -= delivery.size_bytes
        _wake(self._taken)
        return delivery

    async def taken(self) -> None:
        """Wait until the follower takes a delivery."""
        if self._taken is None or self._taken.done():
            self._taken = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._taken)

    def _fits(self, delivery: Delivery) -> bool:
        messages, size_bytes = self._limits
        fits = self._bytes + delivery.size_bytes <= size_bytes
        return not self._deliveries or (fits and len(self._deliveries) < messages)

    def _keep(self, end: Delivery) -> None:
        """Keep an `end`; a repeat replaces the one before."""
        known = self._ends.pop(end.labels.message_id, None)
        self._ends_bytes += end.size_bytes - (0 if known is None else known.size_bytes)
        self._ends[end.labels.message_id] = end
        messages, size_bytes = self._limits
        while len(self._ends) > 1 and (len(self._ends) > messages or self._ends_bytes > size_bytes):
            self._ends_bytes -= self._ends.popitem(last=False)[1].size_bytes


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)
