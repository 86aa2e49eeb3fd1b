"""Decide who gets a message, and which bindings that takes, without I/O.

Invariants:

- A binding is held as long as somebody needs it: it is counted, and two who follow the same chat
  share it.
- A message goes to each taker of its chat that wants it, and to those of all chats. One that was
  sent before its binding was removed finds no taker, and is dropped.
"""

from collections import Counter
from collections.abc import Collection
from typing import Protocol

from aimicromind_schemas.client.delivery import Delivery
from aimicromind_schemas.client.wanted import Wanted


class Taker(Protocol):
    """Somebody who gets live events. No method may raise or wait.

    Attributes:
        wanted: What to give it.
    """

    @property
    def wanted(self) -> Wanted:
        """What to give it."""

    def put(self, delivery: Delivery) -> None:
        """Take a message."""

    def miss(self) -> None:
        """Remember that messages are missed from now on."""


class Dispatch:
    """The takers of one queue, and its bindings."""

    def __init__(self) -> None:
        self._keys: Counter[str] = Counter()
        self._of_chats: dict[str, dict[Taker, None]] = {}
        self._of_all: dict[Taker, None] = {}

    @property
    def keys(self) -> Collection[str]:
        """The binding keys that are needed."""
        return self._keys.keys()

    @property
    def takers(self) -> list[Taker]:
        """All who get messages."""
        return [*self._of_all, *(taker for chat in self._of_chats.values() for taker in chat)]

    def hold(self, key: str) -> None:
        """Count one more who needs a binding."""
        self._keys[key] += 1

    def release(self, key: str) -> bool:
        """Count one less, and return whether nobody needs the binding any more."""
        self._keys[key] -= 1
        if self._keys[key] > 0:
            return False
        del self._keys[key]
        return True

    def add(self, taker: Taker) -> None:
        """Route messages to somebody from now on."""
        self._place(taker)[taker] = None

    def remove(self, taker: Taker) -> None:
        """Route no more messages to it, if it got any."""
        chat_id = taker.wanted.chat_id
        place = self._of_all if chat_id is None else self._of_chats.get(chat_id, {})
        place.pop(taker, None)
        if chat_id is not None and not place:
            self._of_chats.pop(chat_id, None)

    def route(self, delivery: Delivery) -> int:
        """Pass a message to all who want it, and return their number."""
        chat = self._of_chats.get(delivery.labels.chat_id or "", ())
        # Whoever takes a message may leave.
        takers = [it for it in (*chat, *self._of_all) if it.wanted.takes(delivery)]
        for taker in takers:
            taker.put(delivery)
        return len(takers)

    def _place(self, taker: Taker) -> dict[Taker, None]:
        chat_id = taker.wanted.chat_id
        return self._of_all if chat_id is None else self._of_chats.setdefault(chat_id, {})
