"""Say in which partition of the event log the events of a chat are.

Programs in other languages compute the same: `schemas/vectors/partitions.json` has examples.
"""

from typing import Final
from zlib import crc32

PARTITIONS: Final = 4
"""Partitions of the event log, unless the workers have another setting."""

MOST_PARTITIONS: Final = 64
"""The largest number of partitions that the setting allows."""


def partition_of(chat_id: str, partitions: int) -> int:
    """Return the partition of a chat: CRC-32 of its id in UTF-8, modulo the number of partitions.

    CRC-32 is that of zlib, gzip and PNG (ISO 3309), without a sign.

    Args:
        chat_id: The chat.
        partitions: The number of partitions, at least 1.

    Raises:
        UnicodeEncodeError: A lone surrogate has no UTF-8 form. This is a ValueError.
    """
    return crc32(chat_id.encode()) % partitions
