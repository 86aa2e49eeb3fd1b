"""Read from a content header what a message says of itself, without reading the rest of it."""

import struct
from typing import Final, NamedTuple

from aimicromind_schemas.client.transport.header_layout import (
    HEAD,
    HEADERS_FLAG,
    LENGTH_BYTES,
    PROPERTIES,
    VALUE_START_BYTES,
    end_of_property,
    end_of_value,
)

CHAT_HEADER: Final = "x-stream-filter-value"
"""Header of each event with the id of its chat."""

_CHAT: Final = CHAT_HEADER.encode()
_CORRELATION_ID_FLAG: Final = 1 << 10
_MESSAGE_ID_FLAG: Final = 1 << 7
_TYPE_FLAG: Final = 1 << 5
_TEXT: Final = ord("S")


class Labels(NamedTuple):
    """What an event's message says of itself.

    Attributes:
        chat_id: The header `x-stream-filter-value`; None where it is missing or no text.
        message_id: `JOB:ATTEMPT:SEQ`, or `JOB:end`; empty where it is missing.
        type: Name of the event; empty where it is missing.
    """

    chat_id: str | None = None
    message_id: str = ""
    type: str = ""


def labels_of(header: bytes) -> Labels:
    """Return the labels in the payload of a content header, as the broker sent it.

    Whoever published the message wrote it: what cannot be read counts as missing.
    """
    chat_id, message_id, kind = None, b"", b""
    try:
        flags, at = HEAD.unpack_from(header)[3], HEAD.size
        for flag, layout in PROPERTIES:
            if not flags & flag:
                continue
            end = end_of_property(header, at, layout)
            if flag == HEADERS_FLAG:
                chat_id = _chat_in(header, at + LENGTH_BYTES, min(end, len(header)))
            elif flag == _MESSAGE_ID_FLAG:
                message_id = header[at + 1 : end]
            elif flag == _TYPE_FLAG:
                kind = header[at + 1 : end]
                break
            at = end
    except (IndexError, struct.error):
        pass
    return Labels(
        None if chat_id is None else str(chat_id, "utf-8", "replace"),
        str(message_id, "utf-8", "replace"),
        str(kind, "utf-8", "replace"),
    )


def correlation_of(header: bytes) -> str:
    """Return the correlation id in the payload of a content header; empty where it is missing."""
    try:
        flags, at = HEAD.unpack_from(header)[3], HEAD.size
        for flag, layout in PROPERTIES:
            if not flags & flag:
                continue
            end = end_of_property(header, at, layout)
            if flag == _CORRELATION_ID_FLAG:
                return str(header[at + 1 : end], "utf-8", "replace")
            at = end
    except (IndexError, struct.error):
        pass
    return ""


def _chat_in(header: bytes, at: int, end: int) -> bytes | None:
    """Walk the fields of a header table up to that of the chat."""
    while at < end:
        value_at = at + 1 + header[at]
        value_end = end_of_value(header, value_at, end)
        if value_end is None:
            return None
        if header[value_at] == _TEXT and header[at + 1 : value_at] == _CHAT:
            return header[value_at + VALUE_START_BYTES : value_end]
        at = value_end
    return None
