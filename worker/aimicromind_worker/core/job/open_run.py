"""The record of a call that was made under a conversation's own chatId.

The endpoint mixes up calls of equal chatId, and a call that was cut goes on writing to its own. So
the journal says of each such call that it begins, and what became of it: the conversation's next
call must wait for the run behind it.
"""

from datetime import datetime

import msgspec


class OpenRun(msgspec.Struct, frozen=True, rename="camel"):
    """A run that the endpoint may not have finished.

    Attributes:
        job_id: The job whose call it is.
        chat_id: The conversation.
        chatflow_id: The flow.
        call: The call's place among those of the job, from 1.
        after: The conversation's last message before it; empty: there was none. None: nobody
            knows, so that the answer cannot be told from others.
        until: When it is over in any case; None: it is over.
    """

    job_id: str
    chat_id: str
    chatflow_id: str
    call: int
    after: str | None
    until: datetime | None

    def over(self) -> "OpenRun":
        """Return that the run is over."""
        return msgspec.structs.replace(self, until=None)

    def until_at_most(self, moment: datetime) -> "OpenRun":
        """Return when it is over in any case."""
        until = moment if self.until is None else min(self.until, moment)
        return msgspec.structs.replace(self, until=until)

    def encode(self) -> bytes:
        """Write it as a message of the journal."""
        return msgspec.json.encode(_Record(self))


class _Record(msgspec.Struct, frozen=True, rename="camel"):
    open_run: OpenRun


_records = msgspec.json.Decoder(_Record)


def read_open_run(body: bytes) -> OpenRun | None:
    """Read a message of the journal; None for what is no such record."""
    try:
        return _records.decode(body).open_run
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
