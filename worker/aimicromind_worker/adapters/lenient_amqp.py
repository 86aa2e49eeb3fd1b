"""Read any message that the broker delivers, also one whose properties are not as they should be.

A broker passes on text that is not UTF-8 and times beyond any calendar. pamqp raises on them
inside the connection's reader, so that one message of one producer would end the session of
each worker it reaches. Here such text is read with `?` for what is not UTF-8, and such a time
as none. It rests on the decoder tables of pamqp 4 (hence the upper bound in pyproject.toml).
"""

import struct
from datetime import UTC, datetime

from pamqp import common, decode

_LENGTH_BYTES = 4
_TIME_BYTES = 8
_LAST_SECOND = 253_402_300_799  # of the year 9999


def install() -> None:
    """Put the lenient readers in pamqp's tables; once is enough, and again does no harm."""
    decode.METHODS["shortstr"] = _short_text
    decode.METHODS["timestamp"] = decode.TABLE_MAPPING[b"T"] = _time
    decode.METHODS["table"] = decode.TABLE_MAPPING[b"F"] = _table


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return _mended(data)


def _mended(data: bytes) -> str:
    # One character for one byte: the text must fit again where it is published once more.
    return "".join(map(_character, data.decode(errors="surrogateescape")))


def _character(character: str) -> str:
    return "?" if "\ud800" <= character <= "\udfff" else character


def _short_text(value: bytes) -> tuple[int, str]:
    end = value[0] + 1
    return end, _text(value[1:end])


def _time(value: bytes) -> tuple[int, datetime | None]:
    seconds = int.from_bytes(value[:_TIME_BYTES], "big")
    if seconds > _LAST_SECOND:
        return _TIME_BYTES, None
    return _TIME_BYTES, datetime.fromtimestamp(seconds, UTC)


def _table(value: bytes) -> tuple[int, common.FieldTable]:
    end = _LENGTH_BYTES + int.from_bytes(value[:_LENGTH_BYTES], "big")
    fields: common.FieldTable = {}
    at = _LENGTH_BYTES
    try:
        while at < end:
            consumed, name = _short_text(value[at:])
            at += consumed
            consumed, fields[name] = decode.embedded_value(value[at:])
            at += consumed
    except (struct.error, IndexError) as error:
        raise ValueError("a field table is shorter than it says") from error
    return end, fields
