"""Cut the bytes of an event stream into frames (WHATWG HTML 9.2.6), in bounded memory.

`frames.py` decides what a frame means, and whether one that is too large may be left out.

Invariants:

- The frames do not depend on where the bytes were cut into chunks.
- Lines end in LF, CR or CRLF, and in nothing else: tokens may hold other line separators.
- At most the limit, plus one chunk, is kept of an unfinished frame. Of a larger one that is left
  out, its first 1 KiB and its last byte are kept.
- While a frame is left out, `_open` holds one byte: the last one, which may begin a blank line.
"""

from collections.abc import Callable, Iterator
from itertools import chain

import msgspec

from aimicromind_worker.core.endpoint.errors import FrameTooLarge

_BOM = b"\xef\xbb\xbf"
_BLANK_LINE = b"\n\n"
# The endpoint's usual frame is one unknown field and one line of data (docs/endpoint.md).
_USUAL = b"message:\ndata:"
# The beginning is long enough for a name. The longest frame is bounded, too: a line may never end.
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
    """A frame that was too large, without its data.

    Attributes:
        beginning: Its first bytes, at most 1 KiB.
        size_bytes: Length of the whole frame, without the blank line.
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
            max_frame_bytes: Longest frame that is kept.
            may_leave_out: Returns, from the beginning of a longer frame, whether it may be left
                out.
        """
        self._limit = max_frame_bytes
        self._may_leave_out = may_leave_out
        self._left_out = LargeFrame(b"", 0)
        self._head: bytes | None = b""
        self._after_cr = False
        self._open = bytearray()

    def frames(self, chunk: bytes) -> Iterator[Frame | LargeFrame]:
        """Return the frames that the next bytes complete; exhaust them before the next call.

        Raises:
            FrameTooLarge: As in `feed`, after the frames before it.
        """
        if len(chunk) <= self._limit:
            return iter(self.feed(chunk))
        starts = range(0, len(chunk), self._limit)
        parts = (self.feed(chunk[start : start + self._limit]) for start in starts)
        return chain.from_iterable(parts)

    def feed(self, chunk: bytes) -> list[Frame | LargeFrame]:
        """Decode the next bytes, cut anywhere.

        Returns:
            The frames that these bytes complete, in order. A frame ends with a blank line.

        Raises:
            FrameTooLarge: A frame, complete or not, is longer than the limit and may not be left
                out, or is longer than 64 times the limit. Frames before it in the same bytes are
                lost; bytes within the limit hold none.
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
            # `_open` holds the frame's last byte, which `size_bytes` counts already.
            self._leave_out(left_out.beginning, left_out.size_bytes + len(unfinished))
        # One more: the end of the last line does not count.
        elif len(self._open) > self._limit + 1:
            self._leave_out(bytes(self._open[:_BEGINNING_BYTES]), len(self._open))

    def _leave_out(self, beginning: bytes, size_bytes: int) -> None:
        """Keep only the beginning of a frame, and its last byte."""
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
        """Remove a byte order mark from the start of the stream, which may be cut within it."""
        head = (self._head or b"") + chunk
        if len(head) < len(_BOM) and _BOM.startswith(head):
            self._head = head
            return b""
        self._head = None
        return head.removeprefix(_BOM)

    def _with_lf_only(self, chunk: bytes) -> bytes:
        """Replace CR and CRLF by LF; a CRLF may be cut between two chunks."""
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
