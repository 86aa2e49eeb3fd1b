"""Read the answer of a broken-off call from the messages that the endpoint saves.

The endpoint finishes a run and saves its answer, also if nobody reads the stream. Invariants:

- A look-up only reads: it never makes a prediction call.
- An answer is taken only if it belongs to the call: the chat holds that call alone, or the message
  id is known, or the answer follows the last message before the call.
- No wait is longer than `Recovery.patience`. Zero switches the recovery off.
- None means that no answer was found, not that the call left nothing behind.
"""

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
# One request may fail by chance. After two in a row the endpoint counts as gone, with its run.
_REFUSALS = 2


class MessageStore(Protocol):
    """The messages that the endpoint saved."""

    async def messages(self, chatflow_id: str, endpoint_chat_id: str) -> bytes | None:
        """Return the messages of a chat as JSON, oldest first; None if they may not be read.

        Raises:
            EndpointUnavailable: The endpoint does not answer.
        """


@dataclass(frozen=True, slots=True)
class Found:
    """A saved answer and its call.

    Attributes:
        answer: The saved answer.
        endpoint_chat_id: The chatId of the call.
        place: The index of the call among those that were looked up, from 0.
    """

    answer: SavedAnswer
    endpoint_chat_id: str
    place: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """The look-up of saved answers.

    Attributes:
        memory: The endpoint's saved messages.
        patience: The longest wait for an answer that is not saved yet; zero: no look-up at all.
    """

    memory: MessageStore
    patience: timedelta

    async def last_message_id(self, chatflow_id: str, endpoint_chat_id: str) -> str | None:
        """Return the id of a chat's newest message.

        Returns:
            The id; empty if the chat has no message; None if the messages cannot be read.
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
        """Look until one of the calls has an answer, none can come, or the time is over.

        Args:
            chatflow_id: The flow.
            endpoint_chat_ids: The chatIds of the calls. Each belongs to one call alone, unless
                `message_id` or `after` is set.
            patience: The longest wait; `Recovery.patience` bounds it.
            message_id: The endpoint's id of the answer, if the stream has named it.
            after: The id of the chat's last message before the call.

        Returns:
            The first answer found; None if there is none, or if the messages cannot be read.
        """
        ends = monotonic() + min(patience, self.patience).total_seconds()
        backoff, refusals = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S), 0
        while self.patience:
            try:
                found = await self._look_once(chatflow_id, endpoint_chat_ids, message_id, after)
                if found is not None:
                    return found
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

    async def _look_once(
        self, chatflow_id: str, endpoint_chat_ids: Sequence[str], message_id: str | None, after: str
    ) -> Found | None:
        """Return the first answer that is saved by now.

        Raises:
            EndpointUnavailable: The endpoint does not answer.
            NotMessages: The messages cannot be read.
        """
        for place, chat_id in enumerate(endpoint_chat_ids):
            body = await self.memory.messages(chatflow_id, chat_id)
            if body is None:
                raise NotMessages
            saved = read_saved_answer(body, message_id, after)
            if saved is not None:
                return Found(saved, chat_id, place)
        return None
