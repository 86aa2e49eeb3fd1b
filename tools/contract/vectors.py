"""Write examples of what programs in other languages must compute as this one does."""

from zlib import crc32

from aimicromind_schemas.partitions import partition_of
from tools.contract.places import as_text

_CHATS = ("chat-1", "chat-2", "a", "", "Zürich", "聊天", "🙂", "a.b*c#d %", "0" * 36)
_COUNTS = (1, 2, 4, 7, 16, 64)


def partitions() -> str:
    """Return the text of the examples of `partition_of`."""
    return as_text(
        {
            "description": "Partition of the event log that has the events of a chat: CRC-32 of "
            "the chatId in UTF-8, modulo the number of partitions.",
            "vectors": [
                {
                    "chatId": chat_id,
                    "utf8": chat_id.encode().hex(),
                    "crc32": crc32(chat_id.encode()),
                    "partitionOf": {str(it): partition_of(chat_id, it) for it in _COUNTS},
                }
                for chat_id in _CHATS
            ],
        }
    )
