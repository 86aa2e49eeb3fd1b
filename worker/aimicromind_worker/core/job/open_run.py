"""The record of a call that was made under a conversation's own chatId.

The endpoint mixes up calls of equal chatId, and a call that was cut goes on writing to its own. So
the journal says of each such call that it begins, and what became of it: the conversation's next
call must wait for the run behind it.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import msgspec

# About 3 MB.
_ANSWERS_KEPT = 10_000


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
        answer: The endpoint's id of its saved answer, where it is over and somebody has seen it.
    """

    job_id: str
    chat_id: str
    chatflow_id: str
    call: int
    after: str | None
    until: datetime | None
    answer: str | None = None

    def over(self, answer: str | None = None) -> "OpenRun":
        """Return that the run is over.

        Args:
            answer: The id of its saved answer, which its job may still have to read.
        """
        return msgspec.structs.replace(self, until=None, answer=answer)

    def until_at_most(self, moment: datetime) -> "OpenRun":
        """Return when it is over in any case."""
        until = moment if self.until is None else min(self.until, moment)
        return msgspec.structs.replace(self, until=until)

    def encode(self) -> bytes:
        """Write it as a message of the journal."""
        return msgspec.json.encode(_Record(self))


class RunsKnown(NamedTuple):
    """What is known to a job that is to be called for under its conversation's chatId.

    Attributes:
        last: The conversation's last call, unless it is over.
        answered: The job's own earlier call, if it is over and has a saved answer.
    """

    last: OpenRun | None = None
    answered: OpenRun | None = None


@dataclass(slots=True)
class OpenRuns:
    """The records of all conversations, taken in their order.

    Attributes:
        last: The last call of each conversation, unless it is known to be over.
        answered: Calls whose saved answer has a known id, by job; the oldest first.
    """

    last: dict[str, OpenRun] = field(default_factory=dict)
    answered: dict[str, OpenRun] = field(default_factory=dict)

    def take(self, run: OpenRun) -> None:
        """Take in the next record."""
        if run.answer is not None:
            self.answered[run.job_id] = run
            if len(self.answered) > _ANSWERS_KEPT:
                del self.answered[next(iter(self.answered))]
        known = self.last.get(run.chat_id)
        if known is not None and _is_late(run, known):
            return
        if run.until is None:
            self.last.pop(run.chat_id, None)
        else:
            self.last[run.chat_id] = run

    def of(self, job_id: str, chat_id: str) -> RunsKnown:
        """Return what is known to a job."""
        return RunsKnown(self.last.get(chat_id), self.answered.get(job_id))

    def copy(self) -> "OpenRuns":
        """Return what is known now."""
        return OpenRuns(self.last.copy(), self.answered.copy())

    def forget(self, before: datetime) -> None:
        """Forget what was over before that moment in any case."""
        for chat_id, run in list(self.last.items()):
            if run.until is not None and run.until <= before:
                del self.last[chat_id]


def _is_late(run: OpenRun, known: OpenRun) -> bool:
    """Return whether a record speaks of a call before the last one.

    A worker that has lost its chat may write what became of its call after the next one began.
    """
    if (run.job_id, run.call) == (known.job_id, known.call) or known.until is None:
        return False
    # A call begins after the one before it is over in any case, or known to be over.
    return run.until is None or run.until < known.until


class _Record(msgspec.Struct, frozen=True, rename="camel"):
    open_run: OpenRun


_records = msgspec.json.Decoder(_Record)


def read_open_run(body: bytes) -> OpenRun | None:
    """Read a message of the journal; None for what is no such record."""
    try:
        return _records.decode(body).open_run
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
