"""Call the handler of an event within its time limit, and say why it failed."""

import asyncio
import logging
from collections.abc import Mapping
from typing import Final

from aimicromind_schemas.client.consuming.failures import ConsumerFailureKind, Failure
from aimicromind_schemas.client.consuming.options import (
    ConsumerCounts,
    ConsumerOptions,
    Handler,
    Unprocessable,
)
from aimicromind_schemas.client.transport.cancelling import unless_cancelled
from aimicromind_schemas.messages.envelope import GenericEvent
from aimicromind_schemas.messages.events import Event
from aimicromind_schemas.vocabulary import EVENT_NAMES

_log = logging.getLogger(__name__)

UNREADABLE: Final = Failure(ConsumerFailureKind.UNREADABLE, "it has no event that can be read")
_OTHER_SHAPE: Final = Failure(
    ConsumerFailureKind.UNREADABLE, "its data has a shape that this version does not know"
)


class Handling:
    """Calls the handlers of one consumer."""

    def __init__(
        self, handlers: Mapping[str, Handler], options: ConsumerOptions, counts: ConsumerCounts
    ) -> None:
        self._handlers = dict(handlers)
        self._limit_s = options.time_limit.total_seconds()
        self._counts = counts

    async def failure_of(self, event: Event) -> Failure | None:
        """Call the handler of an event; return None once it returned, or where there is none."""
        handler = self._handlers.get(event.event)
        if handler is None:
            # Of a binding that was removed after the event came.
            return None
        if isinstance(event, GenericEvent) and event.event in EVENT_NAMES:
            return _OTHER_SHAPE
        clock = asyncio.get_running_loop().time
        began = clock()
        self._counts.running += 1
        try:
            return await self._called(handler, event)
        finally:
            self._counts.running -= 1
            self._counts.seconds += clock() - began

    async def _called(self, handler: Handler, event: Event) -> Failure | None:
        kind = ConsumerFailureKind.HANDLER_FAILED
        limit = asyncio.timeout(self._limit_s)
        try:
            async with limit:
                await handler(event)
        except Unprocessable as error:
            return Failure.of(error, ConsumerFailureKind.UNPROCESSABLE)
        except asyncio.CancelledError as error:
            # Libraries such as aiormq raise it although the task was not cancelled.
            unless_cancelled()
            return Failure.of(error, kind)
        except Exception as error:  # noqa: BLE001 - it fails this event alone
            unless_cancelled()
            _log.debug("a handler failed", exc_info=True)
            if limit.expired():
                words = f"the handler took longer than {self._limit_s:g} s"
                return Failure(kind, words, words)
            return Failure.of(error, kind)
        return None
