"""Send one address at a time, after the broker closed a connection because of a message.

A broker that closes a connection names no message. So what was in flight is sent again address
by address, each once the one before is answered: whatever is alone in flight at the next close
is at fault. Pure: it keeps messages, and is told what happens.
"""

from collections.abc import Sequence

from aimicromind_worker.amqp.events.resend_buffer import ResendBuffer, Sent


class Isolation:
    """Keeps the messages of all addresses but one. Belongs to the publisher.

    It goes on from the beginning, until all that was kept has been released.

    Attributes:
        going_on: Whether only one address's messages may be in flight.
    """

    def __init__(self) -> None:
        self.going_on = True
        self._alone: ResendBuffer | None = None
        self._kept: dict[ResendBuffer, list[Sent]] = {}

    def keeps(self, sent: Sent) -> bool:
        """Keep a message, unless it may be sent now."""
        if not self.going_on or sent.buffer is self._alone:
            return False
        self._kept.setdefault(sent.buffer, []).append(sent)
        return True

    def at_fault(self, in_flight: Sequence[Sent]) -> bool:
        """Begin, since the broker closed a connection with these messages in flight.

        Returns:
            Whether they are at fault: they were alone, at the second close in a row.
        """
        found = self.going_on and len({sent.buffer for sent in in_flight}) == 1
        self.going_on = True
        return found

    def pause(self) -> None:
        """Keep all messages, since there is no connection."""
        self._alone = None

    def next(self) -> list[Sent]:
        """Return the messages that were kept of the next address, which may now be in flight.

        It is over where there are none.
        """
        self._alone = next(iter(self._kept), None)
        if self._alone is None:
            self.going_on = False
            return []
        return self._kept.pop(self._alone)
