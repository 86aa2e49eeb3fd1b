"""Pass the frames of some channels to handlers, before aiormq reads a connection's bytes.

aiormq wakes two tasks and makes a dozen objects for each frame. With many small messages, that is
most of the cost of their confirms. Frames are those of AMQP 0-9-1, 2.3.5.

Invariants:

- Input is cut into whole frames; an unfinished frame waits for the rest of its bytes.
- Each frame passes the guard first, in order. It may hold a frame back, or return several.
- A frame goes to the handler of its channel, or to aiormq, never to both.
- The frames left to aiormq keep their order.
- While frames are received, aiormq receives bytes at least once a second: a frame, or else a
  heartbeat. Otherwise it would take the broker for dead.
"""

import struct
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from pamqp.constants import FRAME_END_CHAR, FRAME_HEADER_SIZE
from pamqp.frame import marshal
from pamqp.heartbeat import Heartbeat

from aimicromind_schemas.client.transport.message_guard import MessageGuard
from aimicromind_schemas.client.transport.stream_frames import StreamFrames

_start = struct.Struct(">BHI").unpack_from  # type, channel, bytes of the payload
_END_BYTES = len(FRAME_END_CHAR)
# AMQP 0-9-1, 4.2.2: a broker answers "AMQP" and the version that it speaks instead.
_NOT_A_FRAME = b"A"
_HEARTBEAT = marshal(Heartbeat(), 0)
_HEARTBEAT_EVERY_S = 1.0


def method_of(frame: bytes) -> bytes:
    """Return the class and method of a method's frame, 2 bytes each."""
    return frame[FRAME_HEADER_SIZE : FRAME_HEADER_SIZE + 4]


class FrameHandler(Protocol):
    """Reads the frames of one channel."""

    def take(self, frame: bytes) -> bool:
        """Read a whole frame; where the guard shortened a body, its header and body together.

        Returns:
            False to leave it to aiormq.
        """


class FrameDemultiplexer:
    """Distributes the bytes of one connection. It must see all of them, from the first.

    Attributes:
        handlers: By channel number; frames of all other channels are left to aiormq.
        streams: The readers of streams, by channel number; they take messages alone.
        guard: Rewrites frames that pamqp cannot read.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self.handlers: dict[int, FrameHandler] = {}
        self.streams: dict[int, StreamFrames] = {}
        self.guard = MessageGuard()
        self._now = now
        self._heartbeat_at = 0.0
        self._unfinished = b""

    def part(self, data: bytes) -> bytes:
        """Pass frames to their handlers, and return the bytes for aiormq.

        Args:
            data: The next bytes of the connection, cut anywhere.
        """
        data = self._unfinished + data
        if data.startswith(_NOT_A_FRAME):
            self._unfinished = b""
            return data
        left: list[bytes] = []
        streams = self.streams
        at, length = 0, len(data)
        while at + FRAME_HEADER_SIZE + _END_BYTES <= length:
            kind, channel, size = _start(data, at)
            end = at + FRAME_HEADER_SIZE + size + _END_BYTES
            if end > length:
                break
            stream = streams.get(channel)
            if stream is not None and stream.take(kind, data, at + FRAME_HEADER_SIZE, end - 1):
                at = end
                continue
            frame = self.guard.passed(data[at:end])
            handler = self.handlers.get(channel)
            if frame and (handler is None or not handler.take(frame)):
                left.append(frame)
            at = end
        self._unfinished = data[at:]
        return b"".join(left) or self._heartbeat_after(at)

    def rest(self) -> bytes:
        """Return, once, the bytes of a frame that the connection's end cut off."""
        cut_off, self._unfinished = self._unfinished, b""
        return cut_off

    def _heartbeat_after(self, taken_bytes: int) -> bytes:
        """Return a heartbeat for aiormq, at most once a second, where handlers took all frames."""
        now = self._now()
        if taken_bytes and now - self._heartbeat_at > _HEARTBEAT_EVERY_S:
            self._heartbeat_at = now
            return _HEARTBEAT
        return b""
