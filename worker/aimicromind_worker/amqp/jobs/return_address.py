"""Read where the sender of a message wants the answer, from the bytes of the content header."""

import struct
from typing import Final

from aimicromind_schemas.client.transport.header_layout import HEAD, PROPERTIES, end_of_property
from aimicromind_worker.core.chats.return_address import ReturnAddress

_CORRELATION_ID: Final = 1 << 10
_REPLY_TO: Final = 1 << 9


def return_address(header: bytes) -> ReturnAddress | None:
    """Return the address; None where there is none, or none that can be read.

    Args:
        header: The payload of the content header, as a publisher wrote it.
    """
    texts: dict[int, str] = {}
    try:
        flags, at = HEAD.unpack_from(header)[3], HEAD.size
        if not flags & _REPLY_TO:
            return None
        for flag, kind in PROPERTIES:
            if not flags & flag:
                continue
            begin, at = at, end_of_property(header, at, kind)
            if at > len(header):
                return None
            if flag in {_CORRELATION_ID, _REPLY_TO}:
                texts[flag] = header[begin + 1 : at].decode()
            if flag == _REPLY_TO:
                break
    except (IndexError, struct.error, UnicodeDecodeError):
        return None
    return ReturnAddress(texts[_REPLY_TO], texts.get(_CORRELATION_ID, ""))
