"""Bytes of an event stream → frames, by the rules of WHATWG HTML 9.2.6, with a size limit.

What a frame means is left to `frames`.
"""

from collections.abc import Iterator

import msgspec

from aimicromind_worker.core.errors import FrameTooLarge

_BOM = b"\xef\xbb\xbf"
_BLANK_LINE = b"\n\n"
# The endpoint's usual frame: one unknown field, then one line of data (docs/endpoint.md).
_USUAL = b"message:\ndata:"


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One server-sent event as the endpoint wrote it.

    Attributes:
        event: The `event` field, empty if there was none.
        data: The `data` lines, joined by LF. Not yet checked to be UTF-8.
    """

    event: bytes
    data: bytes


class SseDecoder:
    """Decodes one stream. Feed it from one task, each chunk once, in order."""

    def __init__(self, max_frame_bytes: int) -> None:
        self._limit = max_frame_bytes
        self._head: bytes | None = b""
        self._after_cr = False
        self._open = bytearray()

    def frames(self, chunk: bytes) -> Iterator[Frame]:
        """Decode any number of bytes, bit by bit as frames are asked for; ask until the last.

        Raises:
            FrameTooLarge: As `feed`, after the frames before it.
        """
        for start in range(0, len(chunk), self._limit):
            yield from self.feed(chunk[start : start + self._limit])

    def feed(self, chunk: bytes) -> list[Frame]:
        """Decode the next bytes, cut anywhere.

        Returns:
            The frames that these bytes completed, in order. A frame without its blank line
            is not complete, as the standard has it.

        Raises:
            FrameTooLarge: A frame, complete or not, is longer than the limit. Frames before it in
                the same bytes are lost; there are none in so few bytes as the limit.
        """
        if self._head is not None:
            chunk = self._without_bom(chunk)
        if self._after_cr or b"\r" in chunk:
            chunk = self._with_lf_only(chunk)
        if not chunk:
            return []
        if _BLANK_LINE not in self._open[-1:] + chunk:
            self._keep(chunk)
            return []
        if self._open:
            chunk = b"".join((self._open, chunk))
            self._open.clear()
        blocks = chunk.split(_BLANK_LINE)
        if blocks[-1]:
            self._keep(blocks[-1])
        del blocks[-1]
        return [frame for block in blocks if (frame := self._frame(block)) is not None]

    def _keep(self, unfinished: bytes) -> None:
        self._open += unfinished
        # The end of its last line may be there already, and counts for nothing.
        if len(self._open) > self._limit + 1:
            raise FrameTooLarge(self._limit)

    def _frame(self, block: bytes) -> Frame | None:
        if len(block) > self._limit:
            raise FrameTooLarge(self._limit)
        if block.startswith(_USUAL) and block.find(b"\n", len(_USUAL)) < 0:
            data = block[len(_USUAL) :]
            return Frame(b"", data[1:] if data.startswith(b" ") else data)
        return _frame_of_lines(block.split(b"\n"))

    def _without_bom(self, chunk: bytes) -> bytes:
        """Drop one byte order mark at the very start, which may come in pieces."""
        head = (self._head or b"") + chunk
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_BOM)

    def _with_lf_only(self, chunk: bytes) -> bytes:
        """Turn CR and CRLF into LF; a CRLF may be cut between two chunks."""
        if not chunk:
            return chunk
        if self._after_cr:
            chunk = chunk.removeprefix(b"\n")
        self._after_cr = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _frame_of_lines(lines: list[bytes]) -> Frame | None:
    event = b""
    data: list[bytes] = []
    for line in lines:
        name, _, value = line.partition(b":")
        if name == b"data":
            data.append(value.removeprefix(b" "))
        elif name == b"event":
            event = value.removeprefix(b" ")
    return Frame(event, b"\n".join(data)) if data else None
