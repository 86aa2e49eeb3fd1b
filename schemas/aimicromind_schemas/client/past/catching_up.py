"""Catch up with a running job: ask the worker that runs it, and read its answer.

The asker binds its queue to the chat first, then asks. Invariants:

- All events that the asker's queue received before the last part of the answer are in the answer,
  if they are of the attempt that runs. All later ones follow it in the queue.
- Events of the queue are held until the answer is whole, because they may come between its parts.
  Held and answered ones overlap: `reading.Reader` drops repeats.
- A request can be lost with the queue of a lock that is released at that moment. Ask again if no
  answer comes within a second.
"""

import asyncio
import logging
from enum import Enum, auto
from typing import Final

from aio_pika import Message
from aio_pika.abc import AbstractChannel
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import DeliveryError

from aimicromind_schemas.client.connection import TIMEOUT_S, broker_errors
from aimicromind_schemas.client.transport.publishing import publish_confirmed
from aimicromind_schemas.codec import decode
from aimicromind_schemas.messages.catch_up import (
    CatchUpRequest,
    NotASnapshot,
    Snapshot,
    decode_snapshot,
)
from aimicromind_schemas.messages.events import Event, NotAnEvent
from aimicromind_schemas.routing import Names

_log = logging.getLogger(__name__)

_MOST_HELD: Final = 10_000


class CatchUpState(Enum):
    """How far a follower has come with catching up.

    Attributes:
        WAITING: The answer is not whole.
        WHOLE: All events so far of the attempt that runs were returned.
        NOT_RUNNING: The worker that holds the chat runs no job, or not the one asked for. That one
            has ended, or is not run yet.
        INCOMPLETE: Some events must be read from the event log: the worker has them no longer, its
            answer cannot be read, or too many came before it was whole.
    """

    WAITING = auto()
    WHOLE = auto()
    NOT_RUNNING = auto()
    INCOMPLETE = auto()


class CatchUp:
    """One request, from before it is sent until its answer is whole. Without I/O.

    Give it what comes in the asker's queue, in that order. Once `state` is not `WAITING`, take
    `rest`, and use it no more.

    Attributes:
        request: What is asked.
        state: How far it has come.
        running: The job that the worker runs, as it answered; None: none, or not known yet.
        attempt: The attempt that it runs; 0: none, or not known yet.
    """

    def __init__(self, request: CatchUpRequest, most_held: int = _MOST_HELD) -> None:
        """Begin before the request is sent.

        Args:
            request: What is asked.
            most_held: Most events that are held for an answer that is not whole.
        """
        self.request = request
        self.state = CatchUpState.WAITING
        self.running: str | None = None
        self.attempt = 0
        self._most_held = most_held
        self._held: list[Event] = []
        self._next_part = 1

    def hold(self, event: Event) -> None:
        """Hold an event of the chat that came before the answer was whole."""
        if len(self._held) < self._most_held:
            self._held.append(event)
            return
        # The event log has these, and all that are missing.
        self._held.clear()
        self.state = CatchUpState.INCOMPLETE

    def take(self, body: bytes) -> list[Event]:
        """Return the events of a message of type `snapshot`, in their order.

        A part that is not expected is left out: a repeated request has a repeated answer.
        """
        try:
            part = decode_snapshot(body)
        except NotASnapshot as error:
            _log.warning("cannot read the answer of a worker: %s", error)
            self.state = CatchUpState.INCOMPLETE
            return []
        is_expected = part.part in {1, self._next_part}
        is_ours = part.chat_id == self.request.chat_id
        if not (is_expected and is_ours and self.state is CatchUpState.WAITING):
            return []
        self.running = part.job_id
        self.attempt = part.attempt
        self._next_part = part.part + 1
        self.state = self._state_after(part)
        return _events(part) if self.state in {CatchUpState.WAITING, CatchUpState.WHOLE} else []

    def rest(self) -> list[Event]:
        """Return the held events, which follow those of the answer, once."""
        held, self._held = self._held, []
        return held

    def _state_after(self, part: Snapshot) -> CatchUpState:
        if part.job_id is None or self.request.job_id not in {None, part.job_id}:
            return CatchUpState.NOT_RUNNING
        if part.complete_from is not None:
            return CatchUpState.INCOMPLETE
        return CatchUpState.WHOLE if part.part == part.parts else CatchUpState.WAITING


async def ask(
    channel: AbstractChannel,
    names: Names,
    request: CatchUpRequest,
    reply_to: str,
    correlation_id: str | None = None,
) -> bool:
    """Send a request to the worker that holds a chat, and return whether there is one.

    Args:
        channel: A channel with publisher confirms.
        names: The names of the chat locks.
        request: What is asked.
        reply_to: The queue of the answer, which is bound to the chat already. A name that begins
            with `amq.` gets none, unless the broker made it (`amq.gen-…`), nor does one of the
            worker's own queues.
        correlation_id: Comes back with each part of the answer.

    Raises:
        BrokerGone: The connection closed, or no confirm came within 10 s.
        BrokerRefused: The user may not write to the default exchange: read the event log.
    """
    message = Message(
        request.encode(),
        content_type="application/json",
        reply_to=reply_to,
        correlation_id=correlation_id,
    )
    # The second lock is used where the first one is left on a node that is down. Then the broker
    # nacks what is sent to the first.
    locks = (names.chat_lease(request.chat_id), names.chat_lease_instead(request.chat_id))
    for lock in locks:
        if await _is_taken(channel, message, lock):
            return True
    return False


async def _is_taken(channel: AbstractChannel, message: Message, queue: str) -> bool:
    with broker_errors():
        try:
            async with asyncio.timeout(TIMEOUT_S):
                answer = await publish_confirmed(channel, message, "", queue)
        except DeliveryError:
            return False
    return not isinstance(answer, DeliveredMessage)


def _events(part: Snapshot) -> list[Event]:
    events: list[Event] = []
    for body in part.events:
        try:
            events.append(decode(body))
        except NotAnEvent as error:
            _log.warning("skipped an event in the answer of a worker: %s", error)
    return events
