"""Body of a message → the text in it: producers compress long jobs."""

import re
import zlib
from dataclasses import dataclass, field

_GZIP = b"\x1f\x8b"
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 31, 15, -15
_PIECE_BYTES = 16 * 1024
# A member for each line of a log is many; 20 bytes each would be hundreds of thousands.
_MOST_MEMBERS = 10_000
_JSON = re.compile(rb"(?:\xef\xbb\xbf)?[ \t\n\r]*[{\[]")
# Celery, kombu and others tell the character set here.
_NO_ENCODINGS = frozenset({"", "identity", "utf-8", "utf8", "us-ascii", "ascii", "binary"})
_READ = frozenset({"gzip", "x-gzip", "deflate"})
_TOKEN = re.compile(r"[a-z0-9._+-]{1,20}")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """The text of a body.

    Attributes:
        text: As far as it could be read, and no more than one byte longer than allowed.
        fault: Why that is not all; None where it is.
    """

    text: bytes = field(repr=False)
    fault: str | None = None


def unpacked(body: bytes, encoding: str | None, most_bytes: int) -> Unpacked:
    """Decompress a body where it is compressed: gzip, or deflate if the message says so.

    Args:
        body: As it came.
        encoding: The AMQP property `content_encoding`.
        most_bytes: Limit of the text of a compressed body.
    """
    bits = _bits(body, encoding)
    if bits is None:
        return Unpacked(body)
    return _inflated(body, bits, most_bytes)


def is_packed(body: bytes, encoding: str | None) -> bool:
    """Return whether a body is compressed: its length is then not that of its text."""
    return _bits(body, encoding) is not None


def unknown_encoding(encoding: str | None) -> str | None:
    """Return what to do about an encoding that is not read here; None where there is none."""
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
    """Choose zlib's way of reading a body; None where it is not compressed."""
    # What JSON never begins with tells gzip for certain, also where the property lacks or lies.
    if body.startswith(_GZIP):
        return _GZIP_BITS
    if _name(encoding) == "deflate" and not _JSON.match(body):
        return _ZLIB_BITS if _is_zlib(body) else _RAW_BITS
    return None


def _is_zlib(body: bytes) -> bool:
    """RFC 1950, 2.2; HTTP and its followers call both zlib and bare deflate `deflate`."""
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
