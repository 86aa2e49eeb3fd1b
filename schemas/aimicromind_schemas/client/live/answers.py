"""Give answers that come in the live queue to whoever asked."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from aimicromind_schemas.client.transport.labels import Labels, correlation_of
from aimicromind_schemas.client.transport.stream_frames import StreamMessage
from aimicromind_schemas.messages.catch_up import SNAPSHOT

ASKED_BY: Final = "catch-up-"
"""How the correlation ids of requests begin."""

_Take = Callable[[bytes], None]


class Answers:
    """Who waits for an answer of a worker."""

    def __init__(self) -> None:
        self._askers: dict[str, _Take] = {}

    @contextmanager
    def to(self, token: str, take: _Take) -> Iterator[None]:
        """Pass the answers with a correlation id, during the body.

        Args:
            token: The correlation id. All that somebody uses begin with `ASKED_BY`.
            take: Gets the body of each.
        """
        self._askers[token] = take
        try:
            yield
        finally:
            del self._askers[token]

    def is_answer(self, labels: Labels, message: StreamMessage) -> bool:
        """Return whether a message is no event but an answer, and pass it on."""
        if labels.type != SNAPSHOT:
            return False
        # An endpoint may have events of that name, too.
        token = correlation_of(message.header)
        if not token.startswith(ASKED_BY):
            return False
        # Whoever asked may be gone.
        if (take := self._askers.get(token)) is not None:
            take(message.body)
        return True
