"""Read a stored `end`, in order to publish the same event again, byte for byte."""

from datetime import datetime

import msgspec

from aimicromind_worker.core.job.numbering import NumberedEvent


class KnownEnd(msgspec.Struct, frozen=True, rename="camel"):
    """The members of an `end` that routing and properties need.

    Attributes:
        job_id: The job.
        chat_id: The chat that receives the event.
        chatflow_id: The flow; empty if it is unknown.
        attempt: The attempt that the `end` belongs to.
        seq: The sequence number within the attempt.
        time: The time of the event.
    """

    job_id: str
    chat_id: str
    chatflow_id: str
    attempt: int
    seq: int
    time: datetime

    def event(self, body: bytes) -> NumberedEvent:
        """Return the event to publish.

        Args:
            body: The body that this `end` was read from.
        """
        identity = self.job_id.encode() + b":end"
        return NumberedEvent("end", self.seq, identity, int(self.time.timestamp()), body)


_decode = msgspec.json.Decoder(KnownEnd).decode


def read_end(body: bytes) -> KnownEnd | None:
    """Parse the body of an `end`; return None if it cannot be published again."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
