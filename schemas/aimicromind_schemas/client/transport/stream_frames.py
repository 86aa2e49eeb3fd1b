"""The messages of a stream, read from the bytes of its channel.

aiormq and pamqp spend 145 µs of CPU on a message; a stream that holds everybody's traffic is read
for the few messages that somebody wants. Here a message that nobody wants is counted and skipped.

Invariants:
- Frames of one channel come in order: a method, a content header, body frames until the size that
  the header names is reached. Nothing of the same channel comes between them (AMQP 0-9-1, 4.2.6).
- Delivery tags of a channel count from 1 without gap, so the last tag is the number of deliveries.
- What a header says is never trusted: whoever published the message wrote it. A header that cannot
  be read costs its message, nothing else.
"""

import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, NamedTuple

from pamqp import commands
from pamqp.constants import FRAME_BODY, FRAME_HEADER, FRAME_METHOD
from pamqp.header import ContentHeader

from aimicromind_schemas.client.transport.header_layout import (
    HEAD,
    HEADERS_FLAG,
    LENGTH_BYTES,
    PROPERTIES,
    end_of_property,
    end_of_value,
)
from aimicromind_schemas.client.transport.message_guard import LONGEST_BODY_BYTES, method_number
from aimicromind_schemas.client.transport.message_header import NUMBERS, readable_header

_DELIVER: Final = method_number(commands.Basic.Deliver)
_METHOD_BYTES: Final = 4
_body_size: Final = struct.Struct(">Q").unpack_from
_SIZE_AT: Final = 4  # behind class and weight
_write_ack: Final = struct.Struct(">BHIIQBB").pack
_ACK_PAYLOAD_BYTES: Final = 13
_ACK: Final = int.from_bytes(method_number(commands.Basic.Ack))
_FRAME_END: Final = 206
_OFFSET: Final = b"x-stream-offset"


class StreamMessage(NamedTuple):
    """A message of a stream.

    Attributes:
        header: Payload of the content header, as the broker sent it.
        body: The body.
    """

    header: bytes
    body: bytes

    @property
    def offset(self) -> int:
        """Its place in the stream; -1 where none can be read."""
        return offset_in(self.header)

    @property
    def sent_at(self) -> datetime | None:
        """Its AMQP timestamp; None where it has none."""
        sent_at = self._properties.timestamp
        return sent_at if sent_at is None or sent_at.tzinfo else sent_at.replace(tzinfo=UTC)

    @property
    def filter_value(self) -> str | None:
        """The value that a filter of its stream compares; None where it has none."""
        value = (self._properties.headers or {}).get("x-stream-filter-value")
        return value if isinstance(value, str) else None

    @property
    def _properties(self) -> commands.Basic.Properties:
        read = ContentHeader()
        read.unmarshal(readable_header(self.header))
        return read.properties


class StreamFrames:
    """Reads the deliveries of one channel with one consumer, and acknowledges them in bulk.

    Attributes:
        count: Messages that came.
        held: While true, nothing is acknowledged: the broker sends no more than the prefetch.
    """

    def __init__(
        self,
        channel: int,
        write: Callable[[bytes], None],
        take: Callable[[StreamMessage], None],
        wanted: tuple[bytes, ...],
        every: int,
    ) -> None:
        """Begin before the first delivery.

        Args:
            channel: Its number.
            write: Writes whole frames to the connection.
            take: Gets the messages. It must not raise, and is called from the connection's reader.
            wanted: The header of a wanted message holds one of these; others may, too. Empty:
                all are wanted.
            every: How many messages are acknowledged at a time; half the prefetch.
        """
        self.count = 0
        self.held = False
        self._channel = channel
        self._write = write
        self._take = take
        # A pattern of plain alternatives is looked for at the speed of one search.
        self._is_wanted = re.compile(b"|".join(map(re.escape, wanted))).search
        self._every = every
        self._acknowledged = 0
        self._is_stopped = False
        self._header = b""
        self._first = self._latest = b""
        self._parts: list[bytes] | None = None
        self._missing = 0

    def take(self, kind: int, data: bytes, begin: int, end: int) -> bool:
        """Take a frame of the channel.

        Args:
            kind: Of the frame.
            data: Bytes that hold it.
            begin: Where its payload begins.
            end: Where that ends.

        Returns:
            Whether it was a message's; aiormq reads all others.
        """
        if kind == FRAME_BODY:
            if self._parts is not None:
                self._parts.append(data[begin:end])
            self._missing -= end - begin
            if self._missing <= 0:
                self._complete()
            return True
        if kind == FRAME_HEADER:
            size = _body_size(data, begin + _SIZE_AT)[0] if end - begin >= _SIZE_AT + 8 else 0
            self._missing = size
            self._parts = None
            self._latest = data[begin:end]
            if not self.count:
                self._first = self._latest
            if self._is_wanted(self._latest):
                self._header = self._latest
                self._parts = [] if size <= LONGEST_BODY_BYTES else None
            if not size:
                self._complete()
            return True
        return kind == FRAME_METHOD and data[begin : begin + _METHOD_BYTES] == _DELIVER

    @property
    def position(self) -> int:
        """Offset of the message that came last, wanted or not; -1 before the first."""
        return offset_in(self._latest) - (self._missing > 0) if self.count else -1

    @property
    def first(self) -> int:
        """Offset of the message that came first; -1 before that."""
        return offset_in(self._first)

    def stop(self) -> None:
        """Write nothing any more: the channel is about to close.

        Messages still come until it has. A broker closes the connection for an acknowledgement
        behind the request to close.
        """
        self._is_stopped = True

    def acknowledge(self) -> None:
        """Acknowledge what came, so that the broker sends more."""
        if self.count > self._acknowledged and not self._is_stopped:
            self._acknowledged = self.count
            ack = (_ACK, self.count, 1, _FRAME_END)
            self._write(_write_ack(FRAME_METHOD, self._channel, _ACK_PAYLOAD_BYTES, *ack))

    def _complete(self) -> None:
        self.count += 1
        parts, self._parts = self._parts, None
        if parts is not None:
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            self._take(StreamMessage(self._header, body))
        if self.count - self._acknowledged >= self._every and not self.held:
            self.acknowledge()


def offset_in(header: bytes) -> int:
    """Return the offset that the broker wrote into a content header; -1 where there is none."""
    try:
        flags, at = HEAD.unpack_from(header)[3], HEAD.size
        for flag, kind in PROPERTIES:
            if flag == HEADERS_FLAG:
                break
            if flags & flag:
                at = end_of_property(header, at, kind)
        if not flags & HEADERS_FLAG:
            return -1
        end, at = end_of_property(header, at, "table"), at + LENGTH_BYTES
        while at < end:
            value_at = at + 1 + header[at]
            value_end = end_of_value(header, value_at, end)
            if value_end is None:
                return -1
            if header[at + 1 : value_at] == _OFFSET and header[value_at] in NUMBERS:
                return int.from_bytes(header[value_at + 1 : value_end], signed=True)
            at = value_end
    except (IndexError, struct.error):
        pass
    return -1
