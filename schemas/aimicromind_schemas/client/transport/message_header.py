"""A message's properties, as a broker sends them → properties that pamqp surely reads.

RabbitMQ accepts and passes on what pamqp raises on, inside the connection's reader: text that is
not UTF-8, times beyond the calendar, tables nested thousands deep. One message would end the
connection of whoever receives it. The functions here work on bytes alone.

The layout is that of AMQP 0-9-1, 4.2.6.1 (content header), with the field types of RabbitMQ's
errata. Two bounds hold: values nested deeper than `DEEPEST` are left out, and so are all fields
after `MOST_FIELDS`, since pamqp copies the rest of the table for each.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple

from pamqp.common import FieldValue

DEEPEST: Final = 8
"""How deep tables and arrays are read; the header table itself is the first level."""
MOST_FIELDS: Final = 1000
"""How many fields of a message's headers are read, those of inner tables included."""
GUARD_HEADER: Final = "x-aimicromind-guard"
"""Header that says what was left out of a message. No producer can write it: it is dropped."""

_HEAD: Final = struct.Struct(">HHQH")  # class, weight, bytes of the body, flags
_u32: Final = struct.Struct(">I").unpack_from
_u64: Final = struct.Struct(">Q").unpack_from
_write_u32: Final = struct.Struct(">I").pack
_HEADERS: Final = 1 << 13
# The properties of the class `basic`, from the highest flag down; two low bits have no meaning.
_Kind = Literal["text", "table", "mode", "octet", "time"]
_PROPERTIES: Final[tuple[tuple[int, _Kind], ...]] = (
    (1 << 15, "text"),  # content_type
    (1 << 14, "text"),  # content_encoding
    (_HEADERS, "table"),
    (1 << 12, "mode"),
    (1 << 11, "octet"),  # priority
    (1 << 10, "text"),  # correlation_id
    (1 << 9, "text"),  # reply_to
    (1 << 8, "text"),  # expiration
    (1 << 7, "text"),  # message_id
    (1 << 6, "time"),
    (1 << 5, "text"),  # type
    (1 << 4, "text"),  # user_id
    (1 << 3, "text"),  # app_id
    (1 << 2, "text"),  # cluster_id
)
_WIDTHS: Final = {
    ord(kind): width
    for kinds, width in (("tbB", 1), ("su", 2), ("Iif", 4), ("D", 5), ("lLdT", 8), ("V", 0))
    for kind in kinds
}
_LONG_KINDS: Final = frozenset(b"SxFA")
_F, _A, _T = b"FAT"
_LONG_START: Final = 5  # kind and length
_DELIVERY_MODES: Final = frozenset(b"\1\2")
# pamqp reads what is above 32 bits as milliseconds.
_LATEST_TIME: Final = 253_402_300_799_000
_RESERVED: Final = GUARD_HEADER.encode()
# Numbers that the broker writes: they are read wherever they stand.
_OF_THE_BROKER: Final = frozenset({b"x-stream-offset", b"x-delivery-count", b"x-acquired-count"})
_NUMBERS: Final = frozenset(b"bBsuIilL")
_LONGEST_NAME_SHOWN: Final = 64


class LeftOut(NamedTuple):
    """A body of which only the beginning is passed on.

    Attributes:
        kept_bytes: Of the beginning.
        digest: SHA-256 of the whole body, in hexadecimal.
    """

    kept_bytes: int
    digest: str


class Note(NamedTuple):
    """What the header of a message says was left out of it.

    Attributes:
        problem: Which header could not be read, why, and the remedy; None: none.
        body_bytes: Size of the whole body, if only its beginning came.
        digest: SHA-256 of that whole body, in hexadecimal.
    """

    problem: str | None = None
    body_bytes: int | None = None
    digest: str = ""


def noted(headers: Mapping[str, object] | None) -> Note:
    """Read what was left out of a message that came by a guarded connection."""
    match (headers or {}).get(GUARD_HEADER):
        case {"problem": problem, "bytes": size, "digest": digest}:
            known = size if isinstance(size, int) and size >= 0 else None
            return Note(str(problem) or None, known, str(digest))
        case _:
            return Note()


def note_of(problem: str) -> dict[str, FieldValue]:
    """Return the value of the guard's header for a message with a problem, as `noted` reads it."""
    return {"problem": problem, "bytes": -1, "digest": ""}


def readable_header(payload: bytes, left_out: LeftOut | None = None) -> bytes:
    """Return the payload of a content header in a form that pamqp reads.

    Where there is nothing odd in it, and nothing is left out, it is returned as it is.

    Args:
        payload: Of the frame. What is no content header at all is an empty one afterwards.
        left_out: What is passed on of the body, if not all of it.
    """
    reading = _Reading()
    try:
        class_id, weight, size, flags = _HEAD.unpack_from(payload)
        properties = reading.properties(payload, flags)
    except (IndexError, struct.error):
        class_id, weight, size, _ = _HEAD.unpack(payload[: _HEAD.size].ljust(_HEAD.size, b"\0"))
        properties = {}
        reading.problem = "the properties cannot be read: send them as AMQP 0-9-1 has them"
    if reading.problem is not None or left_out is not None:
        fields = properties.get(_HEADERS, bytes(4))[4:]
        properties[_HEADERS] = _table(fields + _written_note(reading.problem, size, left_out))
    body_bytes = size if left_out is None else left_out.kept_bytes
    written = (properties[flag] for flag, _ in _PROPERTIES if flag in properties)
    head = _HEAD.pack(class_id, weight, body_bytes, sum(properties))
    return head + b"".join(written)


def mended(text: bytes) -> bytes:
    """Return text as UTF-8, with `?` for each byte that is not: it keeps its length."""
    if text.isascii():
        return text
    characters = text.decode(errors="surrogateescape")
    return "".join("?" if "\ud800" <= it <= "\udfff" else it for it in characters).encode()


class _Reading:
    """Reads the properties of one message, and keeps the first problem that it finds."""

    def __init__(self) -> None:
        self.problem: str | None = None
        self._fields_left = MOST_FIELDS
        self._header = b""

    def properties(self, data: bytes, flags: int) -> dict[int, bytes]:
        """Return the properties that are kept, by their flags.

        Raises:
            IndexError, struct.error: The data ends too soon.
        """
        kept: dict[int, bytes] = {}
        at = _HEAD.size
        for flag, kind in _PROPERTIES:
            if not flags & flag:
                continue
            begin, at = at, _end_of_property(data, at, kind)
            if at > len(data):
                raise IndexError
            value = data[begin:at]
            match kind:
                case "text":
                    kept[flag] = value if value.isascii() else value[:1] + mended(value[1:])
                case "table":
                    kept[flag] = _table(self._fields(data, begin + 4, at, 1, named=True))
                case "mode" if value[0] not in _DELIVERY_MODES:
                    pass
                case "time" if _u64(value)[0] > _LATEST_TIME:
                    pass
                case _:
                    kept[flag] = value
        return kept

    def _fields(self, data: bytes, at: int, end: int, depth: int, *, named: bool) -> bytes:
        """Return what is kept of the inner part of a table (named) or an array."""
        kept: list[bytes] = []
        name = b""
        while at < end:
            begin = at
            if named:
                at += 1 + data[at]
                name = data[begin + 1 : at]
            if depth == 1:
                self._header = name
            value_end = _end_of_value(data, at, end)
            if value_end is None:
                self._note("cannot be read: send it as AMQP 0-9-1 has it")
                break
            if not self._fields_left:
                self._note(f"is beyond the first {MOST_FIELDS} fields: send fewer, or in the body")
                kept += _of_the_broker(data, begin, end) if depth == 1 else ()
                break
            self._fields_left -= 1
            value = self._value(data, at, value_end, depth)
            if value and not (depth == 1 and name == _RESERVED):
                kept.append(data[begin : begin + 1] + mended(name) + value if named else value)
            at = value_end
        return b"".join(kept)

    def _value(self, data: bytes, at: int, end: int, depth: int) -> bytes:
        kind = data[at]
        if kind in {_F, _A}:
            if depth == DEEPEST:
                self._note(f"is nested more than {DEEPEST} deep: send it flatter, or in the body")
                return b""
            begin = at + _LONG_START
            inner = self._fields(data, begin, end, depth + 1, named=kind == _F)
            return data[at : at + 1] + _table(inner)
        if kind == _T and _u64(data, at + 1)[0] > _LATEST_TIME:
            return b""
        return data[at:end]

    def _note(self, problem: str) -> None:
        if self.problem is None:
            name = mended(self._header).decode()
            self.problem = f"the header {name[:_LONGEST_NAME_SHOWN]!a} {problem}"


def _end_of_property(data: bytes, at: int, kind: _Kind) -> int:
    match kind:
        case "text":
            return at + 1 + data[at]
        case "table":
            return at + 4 + int(_u32(data, at)[0])
        case "time":
            return at + 8
        case _:
            return at + 1


def _end_of_value(data: bytes, at: int, limit: int) -> int | None:
    """Return where a field's value ends; None where nobody can tell, or beyond the limit."""
    if at >= limit:
        return None
    width = _WIDTHS.get(data[at])
    end = at + 1 + (width or 0)
    if width is None:
        if data[at] not in _LONG_KINDS or at + _LONG_START > limit:
            return None
        end = at + _LONG_START + int(_u32(data, at + 1)[0])
    return end if end <= limit else None


def _of_the_broker(data: bytes, at: int, end: int) -> Iterator[bytes]:
    """Yield the numbers of a header table that the broker wrote."""
    while at < end:
        value_at = at + 1 + data[at]
        value_end = _end_of_value(data, value_at, end)
        if value_end is None:
            return
        if data[at + 1 : value_at] in _OF_THE_BROKER and data[value_at] in _NUMBERS:
            yield data[at:value_end]
        at = value_end


def _written_note(problem: str | None, size: int, left_out: LeftOut | None) -> bytes:
    """Write the field that `noted` reads."""
    body_bytes = -1 if left_out is None else size
    note = _table(
        _named("problem", _long_text(problem or ""))
        + _named("bytes", b"l" + struct.pack(">q", body_bytes))
        + _named("digest", _long_text("" if left_out is None else left_out.digest))
    )
    return _named(GUARD_HEADER, b"F" + note)


def _table(fields: bytes) -> bytes:
    return _write_u32(len(fields)) + fields


def _named(name: str, value: bytes) -> bytes:
    return bytes((len(name),)) + name.encode() + value


def _long_text(text: str) -> bytes:
    return b"S" + _table(text.encode())
