"""Wait for the answer that the endpoint finishes and saves although nobody reads its stream."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic
from typing import Protocol

import structlog

from aimicromind_worker.backoff import Backoff
from aimicromind_worker.core.endpoint.errors import EndpointUnavailable
from aimicromind_worker.core.endpoint.saved_answer import (
    NotMessages,
    SavedAnswer,
    last_message_id,
    read_saved_answer,
)

log = structlog.get_logger()

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 3.0
# An endpoint that is gone has taken the run with it; one refusal may be a passing one.
_REFUSALS = 2


class MessageStore(Protocol):
    """The endpoint's memory of what it was asked and answered."""

    async def messages(self, chatflow_id: str, endpoint_chat_id: str) -> bytes | None:
        """Return the messages of a chat, oldest first; None where they may not be read.

        Raises:
            EndpointUnavailable: It does not answer.
        """


@dataclass(frozen=True, slots=True)
class Found:
    """A saved answer, and the call that it answers: its endpoint chatId and its place."""

    answer: SavedAnswer
    endpoint_chat_id: str
    place: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """Looks for saved answers.

    Attributes:
        memory: Where they are.
        patience: Longest wait for one that is not there yet.
    """

    memory: MessageStore
    patience: timedelta

    async def last_message_id(self, chatflow_id: str, endpoint_chat_id: str) -> str | None:
        """Return the id of a chat's newest message, empty where there is none.

        Returns:
            None where nobody can tell, now or at all.
        """
        if not self.patience:
            return None
        try:
            body = await self.memory.messages(chatflow_id, endpoint_chat_id)
            return None if body is None else last_message_id(body)
        except (EndpointUnavailable, NotMessages):
            return None

    async def look(
        self,
        chatflow_id: str,
        endpoint_chat_ids: Sequence[str],
        patience: timedelta,
        message_id: str | None = None,
        after: str = "",
    ) -> Found | None:
        """Look until one of the calls has an answer, or none can come, or patience ends.

        Args:
            chatflow_id: The flow.
            endpoint_chat_ids: The chatIds of the calls, each of one call alone unless
                `message_id` or `after` is given.
            patience: How long to go on; never longer than the own patience.
            message_id: The endpoint's id of the answer, where the stream has named it.
            after: The last message of the chat before the call.
        """
        ends = monotonic() + min(patience, self.patience).total_seconds()
        backoff, refusals = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S), 0
        while self.patience:
            try:
                for place, chat_id in enumerate(endpoint_chat_ids):
                    body = await self.memory.messages(chatflow_id, chat_id)
                    if body is None:
                        return None
                    found = read_saved_answer(body, message_id, after)
                    if found is not None:
                        return Found(found, chat_id, place)
                refusals = 0
            except EndpointUnavailable:
                refusals += 1
            except NotMessages:
                return None
            pause_s = backoff.pause()
            if refusals >= _REFUSALS or monotonic() + pause_s > ends:
                return None
            await asyncio.sleep(pause_s)
        return None
