"""Layout of a content header's properties: which there are, and where each value ends.

The layout is that of AMQP 0-9-1, 4.2.6.1 (content header) and 4.2.5 (field tables), with the field
types of RabbitMQ's errata. All functions work on bytes alone. An `at` is an offset in `data`.
"""

import struct
from typing import Final, Literal

HEAD: Final = struct.Struct(">HHQH")
"""Class, weight, bytes of the body, flags of the properties."""
HEADERS_FLAG: Final = 1 << 13
PropertyKind = Literal["text", "table", "mode", "octet", "time"]
PROPERTIES: Final[tuple[tuple[int, PropertyKind], ...]] = (
    (1 << 15, "text"),  # content_type
    (1 << 14, "text"),  # content_encoding
    (HEADERS_FLAG, "table"),
    (1 << 12, "mode"),  # delivery_mode
    (1 << 11, "octet"),  # priority
    (1 << 10, "text"),  # correlation_id
    (1 << 9, "text"),  # reply_to
    (1 << 8, "text"),  # expiration
    (1 << 7, "text"),  # message_id
    (1 << 6, "time"),  # timestamp
    (1 << 5, "text"),  # type
    (1 << 4, "text"),  # user_id
    (1 << 3, "text"),  # app_id
    (1 << 2, "text"),  # cluster_id
)
"""Properties of the class `basic`, highest flag first. The two lowest flags have no meaning."""

LENGTH_BYTES: Final = 4
"""Bytes of the length in front of a table, an array or a long text."""
VALUE_START_BYTES: Final = 1 + LENGTH_BYTES
"""Bytes of the type and the length in front of such a value in a field."""

_WIDTHS: Final = {
    ord(kind): width
    for kinds, width in (("tbB", 1), ("su", 2), ("Iif", 4), ("D", 5), ("lLdT", 8), ("V", 0))
    for kind in kinds
}
_KINDS_WITH_LENGTH: Final = frozenset(b"SxFA")
_u32: Final = struct.Struct(">I").unpack_from
_write_u32: Final = struct.Struct(">I").pack


def end_of_property(data: bytes, at: int, kind: PropertyKind) -> int:
    """Return where a property ends, which may be beyond the data.

    Raises:
        IndexError, struct.error: The data ends before the property's length.
    """
    match kind:
        case "text":
            return at + 1 + data[at]
        case "table":
            return at + LENGTH_BYTES + int(_u32(data, at)[0])
        case "time":
            return at + 8
        case _:
            return at + 1


def end_of_value(data: bytes, at: int, limit: int) -> int | None:
    """Return where a field's value ends; None for an unknown type, or an end beyond `limit`."""
    if at >= limit:
        return None
    width = _WIDTHS.get(data[at])
    end = at + 1 + (width or 0)
    if width is None:
        if data[at] not in _KINDS_WITH_LENGTH or at + VALUE_START_BYTES > limit:
            return None
        end = at + VALUE_START_BYTES + int(_u32(data, at + 1)[0])
    return end if end <= limit else None


def table(fields: bytes) -> bytes:
    """Write a table or an array: the length, then the fields."""
    return _write_u32(len(fields)) + fields


def named(name: str, value: bytes) -> bytes:
    """Write a field: its name, of at most 255 bytes of ASCII, then its type and value."""
    return bytes((len(name),)) + name.encode() + value


def long_text(text: str) -> bytes:
    """Write a field's value of the type `S`."""
    return b"S" + table(text.encode())
