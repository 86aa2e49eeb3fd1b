"""Build the history of a job from its messages in the journal, called milestones.

Invariants:

- Milestones are taken in the order of the stream. A repeated `start` is not counted twice.
- The first `end` of a job is final: nothing after it changes the history.
- An `end` in the journal is confirmed before the event `end` is published. Only the endings tell
  whether it was published.
- A call is known once it has shown something. A call that failed silently leaves no milestone.
- A milestone is a record, or a whole event of the version that bound the journal to the events.
- A milestone of another version counts as an event of its attempt, and for nothing else.

A journal can hold a hundred thousand milestones: only the members that are needed are decoded.
"""

from datetime import datetime
from typing import Annotated, Final, NamedTuple

import msgspec

from aimicromind_schemas.vocabulary import SIDE_EFFECT_EVENTS, EndStatus, FailureKind

TOOL_RAN: Final = b"true"
"""The data of a record that reports a tool or action."""


class HistoryUnknown(Exception):
    """The journal cannot be read now, thus nothing is known of a job."""


class StoredEnd(NamedTuple):
    """What the endings have of a job.

    Attributes:
        body: The body of its `end`; None if it is not there.
        is_removed: Whether it may have been there: the endings do not reach back so far.
    """

    body: bytes | None
    is_removed: bool = False


class Milestone(msgspec.Struct, frozen=True, rename="camel"):
    """The record of an event, or the event itself.

    Attributes:
        job_id: The job.
        attempt: The number of the attempt.
        time: The time of the event, aware, by the clock of the worker that published it.
        event: The name of the event.
        data: The part of the event's data that a history needs, undecoded JSON.
        chat_id: The chat.
    """

    job_id: str
    attempt: int
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    event: str
    data: msgspec.Raw
    chat_id: str = ""


class _Retry(msgspec.Struct, rename="camel"):
    next_attempt: int
    kind: str = ""


class _Error(msgspec.Struct):
    kind: FailureKind
    message: str = ""


class _End(msgspec.Struct):
    status: EndStatus


_milestones = msgspec.json.Decoder(Milestone)
_retries = msgspec.json.Decoder(_Retry)
_errors = msgspec.json.Decoder(_Error)
_ends = msgspec.json.Decoder(_End)


def read_milestone(body: bytes) -> Milestone | None:
    """Parse a message of the journal; return None if it is no event."""
    try:
        return _milestones.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


class History(msgspec.Struct, frozen=True):
    """What the journal says of one job.

    Attributes:
        last_attempt: The highest attempt that published an event, 0 if none.
        announced: The highest attempt that a `retry` announced, 0 if none.
        calls: The number of calls that showed something.
        calls_lost: The number of those that were lost with their worker, without the last one.
        is_delayed: Whether the job waits after a failure of its own.
        is_open: Whether the last attempt showed something, and no `retry` or `error` followed.
        side_effect: Whether a tool or action event was published.
        status: The status of the `end`, None before it.
        ended_at: The time of the `end` by the clock of its worker; None before it.
        kind: The kind of the last `error`, None if there was none.
        message: The message of the last `error`, for people; empty in a record.
        is_whole: Whether the journal reaches back to the submission of the job.
    """

    last_attempt: int = 0
    announced: int = 0
    calls: int = 0
    calls_lost: int = 0
    is_delayed: bool = False
    is_open: bool = False
    side_effect: bool = False
    status: EndStatus | None = None
    kind: FailureKind | None = None
    message: str = ""
    is_whole: bool = True
    ended_at: datetime | None = None

    def after(self, milestone: Milestone, *, ends: bool = True) -> "History":
        """Return the history with the job's next milestone taken in.

        Args:
            milestone: The milestone.
            ends: Whether an `end` counts; False where none was published.
        """
        if self.status is not None:
            return self
        attempt = max(self.last_attempt, milestone.attempt)
        if milestone.event == "end" and not ends:
            return msgspec.structs.replace(self, last_attempt=attempt)
        try:
            return msgspec.structs.replace(self, last_attempt=attempt, **self._change(milestone))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            # The milestone of another version: the event counts, its data does not.
            return msgspec.structs.replace(self, last_attempt=attempt)

    def _change(self, milestone: Milestone) -> dict[str, object]:
        data = milestone.data
        match milestone.event:
            case "start":
                # A milestone comes twice if the confirm of the first one was lost.
                is_new = milestone.attempt > self.last_attempt
                return {
                    "calls": self.calls + is_new,
                    "calls_lost": self.calls_lost + (is_new and self.is_open),
                    "is_open": True,
                    "is_delayed": False,
                }
            case "retry":
                retry = _retries.decode(data)
                return {
                    "announced": max(self.announced, retry.next_attempt),
                    "is_open": False,
                    "is_delayed": retry.kind != FailureKind.SHUTDOWN,
                }
            case "error":
                error = _errors.decode(data)
                return {"kind": error.kind, "message": error.message, "is_open": False}
            case "end":
                return {"status": _ends.decode(data).status, "ended_at": milestone.time}
            case name if name in SIDE_EFFECT_EVENTS and msgspec.json.decode(data):
                return {"side_effect": True}
            # The record of a tool that an event of another name has shown.
            case _ if bytes(data) == TOOL_RAN:
                return {"side_effect": True}
            case _:
                return {}
