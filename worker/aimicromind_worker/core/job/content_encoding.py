"""Decompress the body of a message, since producers compress long jobs."""

import re
import zlib
from dataclasses import dataclass, field

_GZIP = b"\x1f\x8b"
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 31, 15, -15
_PIECE_BYTES = 16 * 1024
# A gzip member has 20 bytes at least: a body could hold hundreds of thousands.
_MOST_MEMBERS = 10_000
_JSON = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\n\r]*[{\[]")
# Celery, kombu and others put the character set here.
_NO_ENCODINGS = frozenset({"", "identity", "utf-8", "utf8", "us-ascii", "ascii", "binary"})
_READ = frozenset({"gzip", "x-gzip", "deflate"})
_TOKEN = re.compile(r"[a-z0-9._+-]{1,20}")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The text of a body.

    Attributes:
        text: The text as far as it could be read, at most one byte longer than the limit.
        fault: Why the text is incomplete; None if it is complete.
    """

    text: bytes = field(repr=False)
    fault: str | None = None


def unpacked(body: bytes, encoding: str | None, most_bytes: int) -> Unpacked:
    """Decompress a body if it is compressed: gzip, or deflate if the message says so.

    Args:
        body: The body of the message.
        encoding: The AMQP property `content_encoding`.
        most_bytes: The limit of a compressed body's text, in bytes.
    """
    bits = _bits(body, encoding)
    if bits is None:
        return Unpacked(body)
    return _inflated(body, bits, most_bytes)


def is_packed(body: bytes, encoding: str | None) -> bool:
    """Return whether a body is compressed, in which case its text has another length."""
    return _bits(body, encoding) is not None


def unknown_encoding(encoding: str | None) -> str | None:
    """Return a remedy for an encoding that cannot be read; None if the message names none."""
    named = _name(encoding)
    if named in _NO_ENCODINGS:
        return None
    if named in _READ:
        return f"content_encoding says {named}, and the body is not: leave it out"
    shown = named if _TOKEN.fullmatch(named) else "something else"
    return f"content_encoding says {shown}, which is not read here: use gzip, deflate, or none"


def _name(encoding: str | None) -> str:
    return (encoding or "").strip().lower()


def _bits(body: bytes, encoding: str | None) -> int | None:
    """Return zlib's `wbits` for a body; None if it is not compressed."""
    # No JSON begins with these bytes: it is gzip, whatever the property says.
    if body.startswith(_GZIP):
        return _GZIP_BITS
    if _name(encoding) == "deflate" and not _JSON.match(body):
        return _ZLIB_BITS if _is_zlib(body) else _RAW_BITS
    return None


def _is_zlib(body: bytes) -> bool:
    # HTTP and its followers call both zlib and bare deflate `deflate`. Header: RFC 1950, 2.2.
    return len(body) > 1 and body[0] & 0xF == zlib.DEFLATED and int.from_bytes(body[:2]) % 31 == 0


def _inflated(body: bytes, bits: int, most_bytes: int) -> Unpacked:
    texts: list[bytes] = []
    left, members = most_bytes + 1, 0
    inflater = None
    pieces = (body[at : at + _PIECE_BYTES] for at in range(0, len(body), _PIECE_BYTES))
    for piece in pieces:
        rest = piece
        while rest := rest if inflater else rest.lstrip(b"\0"):
            if inflater is None:
                inflater, members = zlib.decompressobj(bits), members + 1
            try:
                text = inflater.decompress(rest, left)
            except zlib.error:
                return Unpacked(b"".join(texts), "the compressed body is damaged")
            texts.append(text)
            left -= len(text)
            if not left:
                return Unpacked(b"".join(texts))
            rest = inflater.unused_data
            inflater = None if inflater.eof else inflater
        if members > _MOST_MEMBERS:
            return Unpacked(b"".join(texts), "the compressed body has too many parts")
    fault = "the compressed body breaks off" if inflater else None
    return Unpacked(b"".join(texts), fault)
