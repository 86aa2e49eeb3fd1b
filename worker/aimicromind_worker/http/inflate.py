"""Decompress an HTTP body (gzip, deflate) piece by piece, so that its reader can bound its size.

Invariants:

- No piece is longer than `_PIECE_BYTES`, whatever the compressed bytes expand to.
- zlib gets at most `_SLICE_BYTES` at once, because it copies all that follows a gzip member.
- Bytes behind the last member are ignored. Whether the answer is whole is decided by its content.
"""

import zlib
from collections.abc import Iterator

_PIECE_BYTES = 64 * 1024
_SLICE_BYTES = 4 * 1024
_GZIP = b"\x1f"
# What zlib expects: a header of gzip or zlib, or none.
_WITH_HEADER, _WITHOUT_HEADER = zlib.MAX_WBITS | 32, -zlib.MAX_WBITS


class Inflate:
    """Decompresses one body."""

    def __init__(self, encoding: str) -> None:
        """Begin a body.

        Args:
            encoding: `gzip`, `x-gzip` or `deflate`.
        """
        self._zlib = zlib.decompressobj(_WITH_HEADER)
        # Some servers send raw deflate (RFC 1951) where RFC 9110 8.4.1.2 asks for a zlib header.
        self._may_lack_header = encoding == "deflate"
        self._may_have_members = encoding != "deflate"
        self._began = False

    @property
    def complete(self) -> bool:
        """Whether the body has come to its end; one without any byte has."""
        return self._zlib.eof or not self._began

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what the next bytes of the body hold.

        Raises:
            zlib.error: They are not compressed as announced.
        """
        for start in range(0, len(data), _SLICE_BYTES):
            yield from self._pieces(data[start : start + _SLICE_BYTES])

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        while data := self._next_member(data):
            piece = self._decompress(data)
            while piece:
                yield piece
                piece = self._zlib.decompress(self._zlib.unconsumed_tail, _PIECE_BYTES)
            data = self._zlib.unused_data if self._zlib.eof else b""

    def _next_member(self, data: bytes) -> bytes:
        """Return the bytes to decompress next, and begin a new member where one starts.

        RFC 1952 2.2: a gzip file is a series of members. As in the program `gzip`, zeros behind a
        member are skipped, and other bytes end the body.
        """
        if not self._zlib.eof:
            return data
        data = data.lstrip(b"\0")
        if not (self._may_have_members and data.startswith(_GZIP)):
            self._may_have_members = self._may_have_members and not data
            return b""
        self._zlib = zlib.decompressobj(_WITH_HEADER)
        return data

    def _decompress(self, data: bytes) -> bytes:
        try:
            piece = self._zlib.decompress(data, _PIECE_BYTES)
        except zlib.error:
            if self._began or not self._may_lack_header:
                raise
            self._zlib = zlib.decompressobj(_WITHOUT_HEADER)
            piece = self._zlib.decompress(data, _PIECE_BYTES)
        self._began = True
        return piece
