"""Bytes of an event stream → frames, by the rules of WHATWG HTML 9.2.6, with a size limit.

What a frame means is left to `frames`, and so is whether one that is too large may be left out.
"""

from collections.abc import Callable, Iterator

import msgspec

from aimicromind_worker.core.endpoint.errors import FrameTooLarge

_BOM = b"\xef\xbb\xbf"
_BLANK_LINE = b"\n\n"
# The endpoint's usual frame: one unknown field, then one line of data (docs/endpoint.md).
_USUAL = b"message:\ndata:"
# A name fits into the beginning; an execution list of a flow may be a hundred times the default
# limit's 4 MiB, and a line without end must not be read for ever.
_BEGINNING_BYTES = 1024
_MOST_TIMES = 64


class Frame(msgspec.Struct, frozen=True, gc=False):
    """One server-sent event as the endpoint wrote it.

    Attributes:
        event: The `event` field, empty if there was none.
        data: The `data` lines, joined by LF. Not yet checked to be UTF-8.
    """

    event: bytes
    data: bytes


class LargeFrame(msgspec.Struct, frozen=True, gc=False):
    """A frame of which only the beginning was kept.

    Attributes:
        beginning: Its lines up to somewhere in its data, at most 1 KiB.
        size_bytes: The length of all of it, without the blank line.
    """

    beginning: bytes
    size_bytes: int


class SseDecoder:
    """Decodes one stream. Feed it from one task, each chunk once, in order."""

    def __init__(
        self, max_frame_bytes: int, may_leave_out: Callable[[bytes], bool] = lambda _: False
    ) -> None:
        """Begin a stream.

        Args:
            max_frame_bytes: The longest frame that is kept.
            may_leave_out: Tells by the beginning of a longer one whether the stream goes on
                without it.
        """
        self._limit = max_frame_bytes
        self._may_leave_out = may_leave_out
        self._left_out = LargeFrame(b"", 0)
        self._head: bytes | None = b""
        self._after_cr = False
        self._open = bytearray()

    def frames(self, chunk: bytes) -> Iterator[Frame | LargeFrame]:
        """Decode any number of bytes, bit by bit as frames are asked for; ask until the last.

        Raises:
            FrameTooLarge: As `feed`, after the frames before it.
        """
        for start in range(0, len(chunk), self._limit):
            yield from self.feed(chunk[start : start + self._limit])

    def feed(self, chunk: bytes) -> list[Frame | LargeFrame]:
        """Decode the next bytes, cut anywhere.

        Returns:
            The frames that these bytes completed, in order. A frame without its blank line
            is not complete, as the standard has it.

        Raises:
            FrameTooLarge: A frame, complete or not, is longer than the limit and may not be left
                out, or is 64 times as long. Frames before it in the same bytes are lost; there are
                none in so few bytes as the limit.
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
        large = self._end_of_large(len(blocks.pop(0))) if self._left_out.beginning else None
        if blocks[-1]:
            self._keep(blocks[-1])
        del blocks[-1]
        frames = [frame for block in blocks if (frame := self._frame(block)) is not None]
        return frames if large is None else [large, *frames]

    def _keep(self, unfinished: bytes) -> None:
        self._open += unfinished
        left_out = self._left_out
        if left_out.beginning:
            # Of its last byte we know already; it may be the first half of a blank line.
            self._leave_out(left_out.beginning, left_out.size_bytes + len(unfinished))
        # The end of its last line may be there already, and counts for nothing.
        elif len(self._open) > self._limit + 1:
            self._leave_out(bytes(self._open[:_BEGINNING_BYTES]), len(self._open))

    def _leave_out(self, beginning: bytes, size_bytes: int) -> None:
        """Keep no more of a frame than its beginning and its last byte."""
        self._left_out = self._large(beginning, size_bytes)
        del self._open[:-1]

    def _large(self, beginning: bytes, size_bytes: int) -> LargeFrame:
        if size_bytes > _MOST_TIMES * self._limit or not self._may_leave_out(beginning):
            raise FrameTooLarge(self._limit)
        return LargeFrame(beginning, size_bytes)

    def _end_of_large(self, last_bytes: int) -> LargeFrame:
        begun, self._left_out = self._left_out, LargeFrame(b"", 0)
        return self._large(begun.beginning, begun.size_bytes + last_bytes - 1)

    def _frame(self, block: bytes) -> Frame | LargeFrame | None:
        if len(block) > self._limit:
            return self._large(block[:_BEGINNING_BYTES], len(block))
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
