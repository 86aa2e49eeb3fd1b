"""A message as the client holds it: what it says of itself, and the event in it, read on demand."""

import logging
from typing import Final, Self

from aiormq.abc import DeliveredMessage

from aimicromind_schemas.client.transport.labels import CHAT_HEADER, Labels, labels_of
from aimicromind_schemas.client.transport.stream_frames import StreamMessage
from aimicromind_schemas.codec import decode
from aimicromind_schemas.messages.events import Event, NotAnEvent

_log = logging.getLogger(__name__)

# Of the objects that hold a message, roughly.
_OBJECTS_BYTES: Final = 500


class Delivery:
    """One message. All who want it share it, and the event is decoded once.

    Attributes:
        labels: What it says of itself.
        body: The body.
    """

    __slots__ = ("_event", "_is_read", "body", "labels")

    def __init__(self, labels: Labels, body: bytes) -> None:
        self.labels = labels
        self.body = body
        self._event: Event | None = None
        self._is_read = False

    @classmethod
    def of_frames(cls, message: StreamMessage) -> Self:
        """Return the message that was read from the bytes of a channel."""
        return cls(labels_of(message.header), message.body)

    @classmethod
    def of_aiormq(cls, message: DeliveredMessage) -> Self:
        """Return a message of aiormq."""
        properties = message.header.properties
        chat_id = (properties.headers or {}).get(CHAT_HEADER)
        labels = Labels(
            chat_id if isinstance(chat_id, str) else None,
            properties.message_id or "",
            properties.message_type or "",
        )
        return cls(labels, message.body)

    @property
    def size_bytes(self) -> int:
        """Memory that it takes, roughly."""
        return len(self.body) + _OBJECTS_BYTES

    @property
    def job_id(self) -> str:
        """The job, as the message id names it; an id of a job has no colon."""
        return self.labels.message_id.partition(":")[0]

    def event(self) -> Event | None:
        """Return the event; None, and once a warning in the log, where there is none."""
        if not self._is_read:
            self._is_read = True
            self._event = self._decoded()
        return self._event

    def _decoded(self) -> Event | None:
        try:
            return decode(self.body)
        except NotAnEvent as error:
            reason = str(error)
        except Exception as error:  # noqa: BLE001 - one message must not end its reader
            # Without the error's text, which might quote the message.
            reason = f"{type(error).__name__} while it was read."
        _log.warning("skipped the message %r: %s", self.labels.message_id, reason)
        return None
