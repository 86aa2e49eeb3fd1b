"""Keep the wanted messages of a stream until they are asked for, in bounded memory.

A broker's prefetch counts messages, not bytes: 1,000 messages may be 8 GB. Invariants:

- Above a soft limit nothing more is acknowledged: the broker sends at most the prefetch on.
- Above a hard limit nothing more is kept. Who reads continues at the first message that was not.
- One message is kept whatever its size.
"""

import asyncio
from collections import deque
from typing import Final

from aimicromind_schemas.client.streams.reader import StreamReader
from aimicromind_schemas.client.transport.stream_frames import StreamMessage

_SOFT_BYTES: Final = 4_000_000
_HARD_BYTES: Final = 16_000_000
# What an object takes beside its bytes.
_EACH_BYTES: Final = 500


class Collected:
    """The wanted messages of one consumer, from `take` to `pop`.

    Attributes:
        changed: Set for each message that came.
        left_out_from: Offset of the first message that was not kept; None while all were.
    """

    def __init__(self) -> None:
        self.changed = asyncio.Event()
        self.left_out_from: int | None = None
        self._messages: deque[StreamMessage] = deque()
        self._bytes = 0
        self._reader: StreamReader | None = None
        self._is_held = False

    @property
    def is_held(self) -> bool:
        """Whether the broker waits for whoever takes the messages."""
        return self._is_held or self.left_out_from is not None

    def follow(self, reader: StreamReader) -> None:
        """Hold this reader while too much is kept."""
        self._reader = reader
        self._hold_or_go_on()

    def take(self, message: StreamMessage) -> None:
        """Keep a message."""
        if self.left_out_from is not None:
            return
        if self._messages and self._bytes > _HARD_BYTES:
            self.left_out_from = message.offset
            self.changed.set()
            return
        self._messages.append(message)
        self._bytes += _size(message)
        self._hold_or_go_on()
        self.changed.set()

    def pop(self) -> StreamMessage | None:
        """Return the oldest message; None if none is kept."""
        if not self._messages:
            return None
        message = self._messages.popleft()
        self._bytes -= _size(message)
        self._hold_or_go_on()
        return message

    def _hold_or_go_on(self) -> None:
        if self._reader is None:
            return
        if not self._is_held and self._bytes > _SOFT_BYTES:
            self._is_held = True
            self._reader.hold()
        elif self._is_held and self._bytes < _SOFT_BYTES // 2:
            self._is_held = False
            self._reader.go_on()


def _size(message: StreamMessage) -> int:
    return len(message.header) + len(message.body) + _EACH_BYTES
