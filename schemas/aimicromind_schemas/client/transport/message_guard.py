"""Frames of messages, as a broker sends them → frames that aiormq surely reads.

Each connection has a guard of its own, in front of aiormq. It sees whole frames in their order.
AMQP 0-9-1 sends a message as a method, a content header, and body frames, with nothing of the
same channel between them; frames of other channels may come between.
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
"""What is kept of a longer one: enough to find the names of most jobs."""

_start: Final = struct.Struct(">BHI")  # kind, channel, bytes of the payload
# Behind a frame's start, class and weight.
_body_size: Final = struct.Struct(">11xQ")
_EMPTY_FRAME_BYTES: Final = FRAME_HEADER_SIZE + len(FRAME_END_CHAR)
_TEXT: Final = 0


def method_number(of: type[Frame]) -> bytes:
    """Return the class and method of a kind of frame, as they stand in the frame."""
    return struct.pack(">I", of.index)


# Behind class and method: texts, and how many bytes of other arguments stand before and between.
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
    """The guard of one connection.

    Attributes:
        rooms: By channel: tells, for the size of a body that comes, whether there is room for it
            now. Of a body that finds none only size and digest are passed on.
    """

    def __init__(self) -> None:
        self.rooms: dict[int, Callable[[int], bool]] = {}
        self._cut: dict[int, _CutBody] = {}

    def passed(self, frame: bytes) -> bytes:
        """Return what aiormq is to read for a frame: that, another, several, or nothing yet."""
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
        # Whatever was before it on this channel is over.
        self._cut.pop(channel, None)
        size = _body_size.unpack_from(frame)[0] if len(frame) > _body_size.size else 0
        room = self.rooms.get(channel)
        if size > LONGEST_BODY_BYTES:
            self._cut[channel] = _CutBody(payload, size, KEPT_BYTES)
        elif room is not None and not room(size):
            self._cut[channel] = _CutBody(payload, size, 0)
        else:
            return _frame(FRAME_HEADER, channel, readable_header(payload))
        return b""

    def _body(self, frame: bytes) -> bytes:
        if len(frame) == _EMPTY_FRAME_BYTES:
            return b""  # Allowed, and nothing that pamqp would read.
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
    """A body that is read and not kept, but for its beginning."""

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
        """Take the next part, and tell whether it was the last."""
        self._missing -= len(part)
        self._sum.update(part)
        self.kept += part[: self._most_kept - len(self.kept)]
        return self._missing <= 0


def _with_text(frame: bytes, layout: tuple[int, ...]) -> bytes:
    """Return a method's frame with texts that are UTF-8."""
    at = FRAME_HEADER_SIZE + 4
    for width in layout:
        if width != _TEXT:
            at += width
            continue
        end = at + 1 + (frame[at] if at < len(frame) else 0)
        if end >= len(frame):
            break  # No broker sends that: it is left to aiormq.
        text = frame[at + 1 : end]
        if not text.isascii():
            frame = frame[: at + 1] + mended(text) + frame[end:]
        at = end
    return frame


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return _start.pack(kind, channel, len(payload)) + payload + FRAME_END_CHAR
