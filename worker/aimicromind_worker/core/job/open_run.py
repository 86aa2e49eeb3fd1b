"""Record the calls that are made under a conversation's own chatId, to make them one at a time.

The endpoint mixes up calls of equal chatId, and a broken-off call keeps writing to its own. The
conversation's next call must therefore wait for the run of the last one. Invariants:

- A record is in the journal before its call is made, another once the call is over or broken off.
- A run with `until` may still write until that time. A run without `until` is over.
- A call begins only after the one before is over, or after its `until`. A record with an earlier
  `until` than the last one is thus late, and does not replace it.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

import msgspec

# 10,000 records take about 3 MB.
_ANSWERS_KEPT = 10_000


class OpenRun(msgspec.Struct, frozen=True, rename="camel"):
    """The run of a call, which the endpoint may not have finished.

    Attributes:
        job_id: The job of the call.
        chat_id: The conversation.
        chatflow_id: The flow.
        call: The number of the call among those of the job, from 1.
        after: The id of the conversation's last message before the call; empty: there was none.
            None: it is unknown, thus the saved answer cannot be identified.
        until: The time at which the run is over in any case, aware; None: it is over.
        answer: The endpoint's id of the saved answer, once the run is over and the id is known.
    """

    job_id: str
    chat_id: str
    chatflow_id: str
    call: int
    after: str | None
    until: datetime | None
    answer: str | None = None

    def over(self, answer: str | None = None) -> "OpenRun":
        """Return the record of the run as over.

        Args:
            answer: The id of the saved answer, which the run's job may still have to read.
        """
        return msgspec.structs.replace(self, until=None, answer=answer)

    def until_at_most(self, moment: datetime) -> "OpenRun":
        """Return the record with `until` at a moment, or earlier as before."""
        until = moment if self.until is None else min(self.until, moment)
        return msgspec.structs.replace(self, until=until)

    def encode(self) -> bytes:
        """Return the record as the body of a message of the journal."""
        return msgspec.json.encode(_Record(self))


class RunsKnown(NamedTuple):
    """The records that a job needs before a call under its conversation's own chatId.

    Attributes:
        last: The conversation's last call, unless it is over.
        answered: The job's own earlier call, if it is over and has a saved answer.
    """

    last: OpenRun | None = None
    answered: OpenRun | None = None


@dataclass(slots=True)
class OpenRuns:
    """The records of all conversations.

    Attributes:
        last: The last call of each conversation by chatId, unless it is known to be over.
        answered: The calls whose saved answer has a known id by jobId, the oldest first.
    """

    last: dict[str, OpenRun] = field(default_factory=dict)
    answered: dict[str, OpenRun] = field(default_factory=dict)

    def take(self, run: OpenRun) -> None:
        """Take in the next record, in the order of the journal."""
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
        """Return the records that concern a job."""
        return RunsKnown(self.last.get(chat_id), self.answered.get(job_id))

    def copy(self) -> "OpenRuns":
        """Return a copy that later records do not change."""
        return OpenRuns(self.last.copy(), self.answered.copy())

    def forget(self, before: datetime) -> None:
        """Drop the calls that were over before a moment in any case."""
        for chat_id, run in list(self.last.items()):
            if run.until is not None and run.until <= before:
                del self.last[chat_id]


def _is_late(run: OpenRun, known: OpenRun) -> bool:
    """Return whether a record is of a call before the last one.

    A worker that lost its chat lock may write such a record after the next call began.
    """
    if (run.job_id, run.call) == (known.job_id, known.call) or known.until is None:
        return False
    return run.until is None or run.until < known.until


class _Record(msgspec.Struct, frozen=True, rename="camel"):
    open_run: OpenRun


_records = msgspec.json.Decoder(_Record)


def read_open_run(body: bytes) -> OpenRun | None:
    """Parse a message of the journal; return None if it is no such record."""
    try:
        return _records.decode(body).open_run
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
