"""Select events from the messages of a queue or a stream."""

import logging
from dataclasses import dataclass
from typing import Final, Self

from aiormq.abc import DeliveredMessage

from aimicromind_schemas.codec import decode
from aimicromind_schemas.messages.events import Event, NotAnEvent
from aimicromind_schemas.routing import Names, chat_binding, routing_key

_log = logging.getLogger(__name__)

_CHAT_HEADER: Final = "x-stream-filter-value"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Selects events.

    Attributes:
        exchange: Exchange of events.
        binding: Binding key of the live queue.
        chat_id: Chat of the events; None for all chats.
        job_id: Job of the events; None for all jobs.
    """

    exchange: str
    binding: str
    chat_id: str | None
    job_id: str | None

    @classmethod
    def of(cls, names: Names, chat_id: str | None, job_id: str | None) -> Self:
        """Select all events of a chat, of a job, or of both."""
        binding = "chat.#" if chat_id is None else chat_binding(chat_id)
        return cls(names.events, binding, chat_id, job_id)

    @classmethod
    def ends(cls, names: Names, chat_id: str | None, job_id: str | None) -> Self:
        """Select the `end` events of a chat, of a job, or of both."""
        binding = "chat.*.end" if chat_id is None else routing_key(chat_id, "end")
        return cls(names.events, binding, chat_id, job_id)

    def event(self, message: DeliveredMessage) -> Event | None:
        """Return the event in a message; None if it is not selected, or the message has none."""
        headers = message.header.properties.headers or {}
        if self.chat_id is not None and headers.get(_CHAT_HEADER) != self.chat_id:
            return None
        event = event_in(message)
        return event if event is not None and self.job_id in {None, event.job_id} else None


def event_in(message: DeliveredMessage) -> Event | None:
    """Return the event in a message; None, and a warning in the log, where it has none."""
    return event_of(message.body, message.routing_key)


def event_of(body: bytes, routing_key: str | None = None) -> Event | None:
    """Return the event in a body; None, and a warning in the log, where it has none."""
    try:
        return decode(body)
    except NotAnEvent as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 - one message must not end its reader
        # Without the error's text, which might quote the message.
        reason = f"{type(error).__name__} while it was read."
    _log.warning("skipped a message with the routing key %r: %s", routing_key, reason)
    return None
