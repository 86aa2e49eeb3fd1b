"""Rewrite frames as a broker sends them, so that aiormq reads each, within bounded memory.

Each connection has a guard of its own, in front of aiormq. It sees whole frames in their order.

Invariants:

- AMQP 0-9-1, 2.3.5: a message is a method, a content header and body frames. Between them are no
  other frames of the channel; frames of other channels may be.
- At most one body is being shortened for each channel. A content header ends the one before it.
- A shortened body is held back until its last frame. Then its header and beginning are returned
  together: the header names size and SHA-256 of the whole body.
- For each message, aiormq reads a header and exactly the body bytes that the header announces.
"""

import struct
from collections.abc import Callable
from hashlib import sha256
from typing import Final

from pamqp import commands
from pamqp.base import Frame
from pamqp.constants import (
    FRAME_BODY,
    FRAME_END_CHAR,
    FRAME_HEADER,
    FRAME_HEADER_SIZE,
    FRAME_METHOD,
)

from aimicromind_schemas.client.transport.message_header import LeftOut, mended, readable_header

LONGEST_BODY_BYTES: Final = 16 * 1024 * 1024
"""Longest body that is passed on whole."""
KEPT_BYTES: Final = 64 * 1024
"""Bytes that are kept of a longer body: enough to find the ids of most jobs."""

_start: Final = struct.Struct(">BHI")  # type, channel, bytes of the payload
# The body size follows the frame's start (7 bytes), the class and the weight (2 bytes each).
_body_size: Final = struct.Struct(">11xQ")
_EMPTY_FRAME_BYTES: Final = FRAME_HEADER_SIZE + len(FRAME_END_CHAR)
_TEXT: Final = 0


def method_number(of: type[Frame]) -> bytes:
    """Return the class and method of a pamqp command as 4 bytes, as a frame has them."""
    return struct.pack(">I", of.index)


# Arguments after class and method: `_TEXT` is a short string, a number that many other bytes.
_TEXTS: Final = {
    method_number(method): layout
    for method, layout in (
        (commands.Basic.Deliver, (_TEXT, 9, _TEXT, _TEXT)),
        (commands.Basic.GetOk, (9, _TEXT, _TEXT)),
        (commands.Basic.Return, (2, _TEXT, _TEXT, _TEXT)),
        (commands.Basic.Cancel, (_TEXT,)),
        (commands.Channel.Close, (2, _TEXT)),
        (commands.Connection.Close, (2, _TEXT)),
        (commands.Connection.Blocked, (_TEXT,)),
    )
}


class MessageGuard:
    """Guards one connection.

    Attributes:
        admits: By channel: called with the size in bytes of a coming body. It returns whether the
            body may be held in memory; if not, only size and digest are passed on.
    """

    def __init__(self) -> None:
        self.admits: dict[int, Callable[[int], bool]] = {}
        self._cut: dict[int, _CutBody] = {}

    def passed(self, frame: bytes) -> bytes:
        """Return what aiormq is to read for a whole frame: that, another, two, or nothing yet."""
        kind = frame[0]
        if kind == FRAME_METHOD:
            number = frame[FRAME_HEADER_SIZE : FRAME_HEADER_SIZE + 4]
            layout = _TEXTS.get(number)
            return frame if layout is None else _with_text(frame, layout)
        if kind == FRAME_HEADER:
            return self._header(frame)
        if kind == FRAME_BODY:
            return self._body(frame)
        return frame

    def _header(self, frame: bytes) -> bytes:
        _, channel, _ = _start.unpack_from(frame)
        payload = frame[FRAME_HEADER_SIZE:-1]
        self._cut.pop(channel, None)
        size = _body_size.unpack_from(frame)[0] if len(frame) > _body_size.size else 0
        admits = self.admits.get(channel)
        if size > LONGEST_BODY_BYTES:
            self._cut[channel] = _CutBody(payload, size, KEPT_BYTES)
        elif admits is not None and not admits(size):
            self._cut[channel] = _CutBody(payload, size, 0)
        else:
            return _frame(FRAME_HEADER, channel, readable_header(payload))
        return b""

    def _body(self, frame: bytes) -> bytes:
        if len(frame) == _EMPTY_FRAME_BYTES:
            return b""  # AMQP allows an empty body frame; pamqp does not read it.
        if not self._cut:
            return frame
        _, channel, _ = _start.unpack_from(frame)
        cut = self._cut.get(channel)
        if cut is None:
            return frame
        if not cut.ends_with(frame[FRAME_HEADER_SIZE:-1]):
            return b""
        del self._cut[channel]
        header = readable_header(cut.header, LeftOut(len(cut.kept), cut.digest))
        frames = _frame(FRAME_HEADER, channel, header)
        return frames + _frame(FRAME_BODY, channel, bytes(cut.kept)) if cut.kept else frames


class _CutBody:
    """A body of which only the beginning is kept, with the digest of all of it."""

    def __init__(self, header: bytes, size: int, most_kept: int) -> None:
        self.header = header
        self.kept = bytearray()
        self._missing = size
        self._most_kept = most_kept
        self._sum = sha256()

    @property
    def digest(self) -> str:
        return self._sum.hexdigest()

    def ends_with(self, part: bytes) -> bool:
        """Add the next part, and return whether it was the last."""
        self._missing -= len(part)
        self._sum.update(part)
        self.kept += part[: self._most_kept - len(self.kept)]
        return self._missing <= 0


def _with_text(frame: bytes, layout: tuple[int, ...]) -> bytes:
    """Return a method's frame whose short strings are UTF-8, at unchanged length."""
    at = FRAME_HEADER_SIZE + 4
    for width in layout:
        if width != _TEXT:
            at += width
            continue
        end = at + 1 + (frame[at] if at < len(frame) else 0)
        if end >= len(frame):
            break  # The text would end behind its frame: aiormq raises on it.
        text = frame[at + 1 : end]
        if not text.isascii():
            frame = frame[: at + 1] + mended(text) + frame[end:]
        at = end
    return frame


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return _start.pack(kind, channel, len(payload)) + payload + FRAME_END_CHAR
