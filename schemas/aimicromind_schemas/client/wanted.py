"""Select events from the messages of a queue or a stream."""

from dataclasses import dataclass
from typing import Self

from aimicromind_schemas.client.delivery import Delivery
from aimicromind_schemas.messages.events import Event
from aimicromind_schemas.routing import chat_binding, routing_key
from aimicromind_schemas.vocabulary import TERMINAL


@dataclass(frozen=True, slots=True)
class Wanted:
    """Selects events.

    Attributes:
        binding: Binding key of the live queue.
        chat_id: Chat of the events; None for all chats.
        job_id: Job of the events; None for all jobs.
        only_ends: Whether only each `end` is wanted.
    """

    binding: str
    chat_id: str | None
    job_id: str | None
    only_ends: bool = False

    @classmethod
    def of(cls, chat_id: str | None, job_id: str | None) -> Self:
        """Select all events of a chat, of a job, or of both.

        Raises:
            ValueError: The chat's id fits no routing key.
        """
        return cls("chat.#" if chat_id is None else chat_binding(chat_id), chat_id, job_id)

    @classmethod
    def ends(cls, chat_id: str | None, job_id: str | None) -> Self:
        """Select the `end` events of a chat, of a job, or of both.

        Raises:
            ValueError: The chat's id fits no routing key.
        """
        binding = "chat.*.end" if chat_id is None else routing_key(chat_id, "end")
        return cls(binding, chat_id, job_id, only_ends=True)

    def takes(self, delivery: Delivery) -> bool:
        """Return whether a message may hold such an event, by what it says of itself."""
        chat_id, message_id, kind = delivery.labels
        if self.chat_id is not None and chat_id != self.chat_id:
            return False
        if self.only_ends and kind and kind not in TERMINAL:
            return False
        return self.job_id is None or not message_id or delivery.job_id == self.job_id

    def event(self, delivery: Delivery) -> Event | None:
        """Return the event in a message; None if it is not selected, or the message has none."""
        if not self.takes(delivery):
            return None
        event = delivery.event()
        return event if event is not None and self.job_id in {None, event.job_id} else None
