"""Some channels' frames, taken from a connection's bytes before aiormq reads them.

aiormq wakes two tasks and makes a dozen objects for each frame, which is most of what the
answers to many small messages cost. Frames are those of AMQP 0-9-1, 2.3.5.
"""

import struct
from collections.abc import Callable
from time import monotonic
from typing import Protocol

from pamqp.constants import FRAME_END_CHAR, FRAME_HEADER_SIZE
from pamqp.frame import marshal
from pamqp.heartbeat import Heartbeat

from aimicromind_schemas.client.transport.message_guard import MessageGuard

_start = struct.Struct(">BHI").unpack_from  # kind, channel, bytes of the payload
_END_BYTES = len(FRAME_END_CHAR)
_NOT_A_FRAME = b"A"  # of "AMQP": a broker names the protocol that it wants instead
_HEARTBEAT = marshal(Heartbeat(), 0)
_HEARTBEAT_EVERY_S = 1.0


def method_of(frame: bytes) -> bytes:
    """Return the class and method of a method's frame."""
    return frame[FRAME_HEADER_SIZE : FRAME_HEADER_SIZE + 4]


class FrameHandler(Protocol):
    """Who reads the frames of one channel."""

    def take(self, frame: bytes) -> bool:
        """Take a whole frame, or leave it to aiormq; two where a body was cut short."""


class FrameDemultiplexer:
    """Parts the bytes of one connection. It must see all of them, from the first.

    Attributes:
        handlers: By the numbers of their channels; frames of all others are left to aiormq.
        guard: Makes readable what of messages is not.
    """

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        self.handlers: dict[int, FrameHandler] = {}
        self.guard = MessageGuard()
        self._now = now
        self._sign_of_life_at = 0.0
        self._unfinished = b""

    def part(self, data: bytes) -> bytes:
        """Pass frames to their handlers, and return what aiormq must read.

        These are the frames that are left, or else, from time to time, a heartbeat.
        """
        data = self._unfinished + data
        if data.startswith(_NOT_A_FRAME):
            self._unfinished = b""
            return data
        left: list[bytes] = []
        at, length = 0, len(data)
        while at + FRAME_HEADER_SIZE + _END_BYTES <= length:
            _, channel, size = _start(data, at)
            end = at + FRAME_HEADER_SIZE + size + _END_BYTES
            if end > length:
                break
            frame = self.guard.passed(data[at:end])
            handler = self.handlers.get(channel)
            if frame and (handler is None or not handler.take(frame)):
                left.append(frame)
            at = end
        self._unfinished = data[at:]
        return b"".join(left) or self._sign_of_life(at)

    def rest(self) -> bytes:
        """Return, once, what came of a frame that the connection's end cut off."""
        cut_off, self._unfinished = self._unfinished, b""
        return cut_off

    def _sign_of_life(self, taken_bytes: int) -> bytes:
        # aiormq hangs up on a broker that it never hears.
        now = self._now()
        if taken_bytes and now - self._sign_of_life_at > _HEARTBEAT_EVERY_S:
            self._sign_of_life_at = now
            return _HEARTBEAT
        return b""
