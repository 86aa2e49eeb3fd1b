"""Rewrite a message's properties, as a broker sends them, so that pamqp reads them.

RabbitMQ accepts and passes on what pamqp raises on, inside the connection's reader: text that is
not UTF-8, times beyond the calendar, tables nested thousands deep. One such message would end the
connection of each consumer that receives it. The functions here work on bytes alone.

Invariants:

- A header that pamqp reads anyway is returned byte for byte.
- Names of fields and texts of properties become UTF-8: `?` replaces each wrong byte, and the
  length stays. All other values that are kept have the bytes that they had.
- Values nested deeper than `DEEPEST` are left out, and so are all fields after `MOST_FIELDS`:
  pamqp copies the rest of a table for each field, which takes quadratic time.
- Numbers that the broker itself adds are kept wherever they stand in the header table.
- An unknown delivery mode and a time after the year 9999 are left out without a note.
- `GUARD_HEADER` notes whatever else was left out, of the headers or of the body. A field of that
  name that a producer wrote is dropped.
"""

import struct
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from pamqp.common import FieldValue

from aimicromind_schemas.client.transport.header_layout import (
    HEAD,
    HEADERS_FLAG,
    LENGTH_BYTES,
    PROPERTIES,
    VALUE_START_BYTES,
    end_of_property,
    end_of_value,
    long_text,
    named,
    table,
)

DEEPEST: Final = 8
"""How deep tables and arrays are read; the header table itself is the first level."""
MOST_FIELDS: Final = 1000
"""How many fields of a message's headers are read, those of inner tables included."""
GUARD_HEADER: Final = "x-aimicromind-guard"
"""Header that says what was left out of a message; see `noted`."""

_u64: Final = struct.Struct(">Q").unpack_from
_F, _A, _T = b"FAT"
_DELIVERY_MODES: Final = frozenset(b"\1\2")
# The last second of the year 9999, in milliseconds: pamqp takes what is above 32 bits for those.
_LATEST_TIME: Final = 253_402_300_799_000
_RESERVED: Final = GUARD_HEADER.encode()
_OF_THE_BROKER: Final = frozenset({b"x-stream-offset", b"x-delivery-count", b"x-acquired-count"})
NUMBERS: Final = frozenset(b"bBsuIilL")
_LONGEST_NAME_SHOWN: Final = 64


class LeftOut(NamedTuple):
    """A body of which only the beginning is passed on.

    Attributes:
        kept_bytes: Length of the beginning.
        digest: SHA-256 of the whole body, in hexadecimal.
    """

    kept_bytes: int
    digest: str


class Note(NamedTuple):
    """What the header of a message says was left out of it.

    Attributes:
        problem: Which header could not be read, why, and the remedy; None: none.
        body_bytes: Size of the whole body, if only its beginning was passed on.
        digest: SHA-256 of that whole body, in hexadecimal.
    """

    problem: str | None = None
    body_bytes: int | None = None
    digest: str = ""


def noted(headers: Mapping[str, object] | None) -> Note:
    """Read what was left out of a message that was received on a guarded connection."""
    match (headers or {}).get(GUARD_HEADER):
        case {"problem": problem, "bytes": size, "digest": digest}:
            known = size if isinstance(size, int) and size >= 0 else None
            return Note(str(problem) or None, known, str(digest))
        case _:
            return Note()


def note_of(problem: str) -> dict[str, FieldValue]:
    """Return the value of `GUARD_HEADER` for a message with a problem, as `noted` reads it."""
    return {"problem": problem, "bytes": -1, "digest": ""}


def readable_header(payload: bytes, left_out: LeftOut | None = None) -> bytes:
    """Return the payload of a content header in a form that pamqp reads.

    Args:
        payload: Of the frame. One that is no content header becomes a header without properties.
        left_out: What is passed on of the body, if not all of it.
    """
    reading = _HeaderReading()
    try:
        class_id, weight, size, flags = HEAD.unpack_from(payload)
        properties = reading.properties(payload, flags)
    except (IndexError, struct.error):
        class_id, weight, size, _ = HEAD.unpack(payload[: HEAD.size].ljust(HEAD.size, b"\0"))
        properties = {}
        reading.problem = "the properties cannot be read: send them as AMQP 0-9-1 defines them"
    if reading.problem is not None or left_out is not None:
        fields = properties.get(HEADERS_FLAG, bytes(LENGTH_BYTES))[LENGTH_BYTES:]
        properties[HEADERS_FLAG] = table(fields + _written_note(reading.problem, size, left_out))
    body_bytes = size if left_out is None else left_out.kept_bytes
    written = (properties[flag] for flag, _ in PROPERTIES if flag in properties)
    head = HEAD.pack(class_id, weight, body_bytes, sum(properties))
    return head + b"".join(written)


def mended(text: bytes) -> bytes:
    """Return text as UTF-8 of the same length, with `?` for each byte that is not UTF-8."""
    if text.isascii():
        return text
    characters = text.decode(errors="surrogateescape")
    return "".join("?" if "\ud800" <= it <= "\udfff" else it for it in characters).encode()


class _HeaderReading:
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
        at = HEAD.size
        for flag, kind in PROPERTIES:
            if not flags & flag:
                continue
            begin, at = at, end_of_property(data, at, kind)
            if at > len(data):
                raise IndexError
            value = data[begin:at]
            match kind:
                case "text":
                    kept[flag] = value if value.isascii() else value[:1] + mended(value[1:])
                case "table":
                    kept[flag] = table(self._fields(data, begin + LENGTH_BYTES, at, 1, named=True))
                case "mode" if value[0] not in _DELIVERY_MODES:
                    pass
                case "time" if _u64(value)[0] > _LATEST_TIME:
                    pass
                case _:
                    kept[flag] = value
        return kept

    def _fields(self, data: bytes, at: int, end: int, depth: int, *, named: bool) -> bytes:
        """Return the fields of a table (named) or an array that are kept, without the length."""
        kept: list[bytes] = []
        name = b""
        while at < end:
            begin = at
            if named:
                at += 1 + data[at]
                name = data[begin + 1 : at]
            if depth == 1:
                self._header = name
            value_end = end_of_value(data, at, end)
            if value_end is None:
                self._note("cannot be read: send it as AMQP 0-9-1 defines it")
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
        """Return a value that is kept; empty for one that is left out."""
        kind = data[at]
        if kind in {_F, _A}:
            if depth == DEEPEST:
                self._note(f"is nested more than {DEEPEST} deep: send it flatter, or in the body")
                return b""
            begin = at + VALUE_START_BYTES
            inner = self._fields(data, begin, end, depth + 1, named=kind == _F)
            return data[at : at + 1] + table(inner)
        if kind == _T and _u64(data, at + 1)[0] > _LATEST_TIME:
            return b""
        return data[at:end]

    def _note(self, problem: str) -> None:
        if self.problem is None:
            name = mended(self._header).decode()
            self.problem = f"the header {name[:_LONGEST_NAME_SHOWN]!a} {problem}"


def _of_the_broker(data: bytes, at: int, end: int) -> Iterator[bytes]:
    """Yield the fields of a header table that hold the broker's own numbers."""
    while at < end:
        value_at = at + 1 + data[at]
        value_end = end_of_value(data, value_at, end)
        if value_end is None:
            return
        if data[at + 1 : value_at] in _OF_THE_BROKER and data[value_at] in NUMBERS:
            yield data[at:value_end]
        at = value_end


def _written_note(problem: str | None, size: int, left_out: LeftOut | None) -> bytes:
    """Write the field that `noted` reads."""
    body_bytes = -1 if left_out is None else size
    note = table(
        named("problem", long_text(problem or ""))
        + named("bytes", b"l" + struct.pack(">q", body_bytes))
        + named("digest", long_text("" if left_out is None else left_out.digest))
    )
    return named(GUARD_HEADER, b"F" + note)
