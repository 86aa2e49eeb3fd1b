"""An `end` as the journal has it → the same event once more, byte for byte."""

from datetime import datetime

import msgspec

from aimicromind_worker.core.job.numbering import NumberedEvent


class KnownEnd(msgspec.Struct, frozen=True, rename="camel"):
    """What an `end` says of itself.

    Attributes:
        job_id: Whose it is.
        chat_id: Where it goes.
        chatflow_id: The flow, empty where it was not known.
        attempt: That it ends.
        seq: Its place in it.
        time: When it was stamped.
    """

    job_id: str
    chat_id: str
    chatflow_id: str
    attempt: int
    seq: int
    time: datetime

    def event(self, body: bytes) -> NumberedEvent:
        """Return the event again."""
        identity = self.job_id.encode() + b":end"
        return NumberedEvent("end", self.seq, identity, int(self.time.timestamp()), body)


_decode = msgspec.json.Decoder(KnownEnd).decode


def read_end(body: bytes) -> KnownEnd | None:
    """Read the body of an `end`; None if it is none that could be published again."""
    try:
        return _decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None
