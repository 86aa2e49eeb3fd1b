"""What the pool remembers of a job: folded from its milestones in the journal, in their order.

There can be a hundred thousand of them: they are read no further than the fold needs.
"""

from datetime import datetime

import msgspec

from aimicromind_schemas import SIDE_EFFECT_EVENTS, EndStatus, FailureKind


class HistoryUnknown(Exception):
    """The journal cannot be read now; nothing may be concluded of a job."""


class Milestone(msgspec.Struct, frozen=True, rename="camel"):
    """An event of the journal.

    Attributes:
        job_id: Whose.
        attempt: Of the job.
        time: By the clock of its worker.
        event: Its name.
        data: As JSON.
    """

    job_id: str
    attempt: int
    time: datetime
    event: str
    data: msgspec.Raw


class _Retry(msgspec.Struct, rename="camel"):
    next_attempt: int


class _Error(msgspec.Struct):
    kind: FailureKind
    message: str


class _End(msgspec.Struct):
    status: EndStatus


_milestones = msgspec.json.Decoder(Milestone)
_retries = msgspec.json.Decoder(_Retry)
_errors = msgspec.json.Decoder(_Error)
_ends = msgspec.json.Decoder(_End)


def read_milestone(body: bytes) -> Milestone | None:
    """Read a message of the journal; None for what is no event."""
    try:
        return _milestones.decode(body)
    except (msgspec.DecodeError, RecursionError):
        return None


class History(msgspec.Struct, frozen=True):
    """What is known of one job.

    Attributes:
        last_attempt: Highest attempt that published anything, 0 if none.
        announced: Highest attempt that a `retry` said would follow, 0 if none did.
        calls: Calls that showed something; those that failed silently leave no trace.
        calls_lost: How many of them were lost with their worker, the last one not counted.
        is_open: Whether the last attempt that showed something has neither failed nor ended.
        side_effect: Whether a tool or action event was published.
        status: How the job ended, None if it has not.
        kind: Why it failed, if it did.
        message: The same for people.
        is_whole: Whether the journal reaches back to when the job was submitted.
    """

    last_attempt: int = 0
    announced: int = 0
    calls: int = 0
    calls_lost: int = 0
    is_open: bool = False
    side_effect: bool = False
    status: EndStatus | None = None
    kind: FailureKind | None = None
    message: str = ""
    is_whole: bool = True

    def after(self, milestone: Milestone) -> "History":
        """Take in the job's next milestone; nothing follows the first end."""
        if self.status is not None:
            return self
        attempt = max(self.last_attempt, milestone.attempt)
        try:
            return msgspec.structs.replace(self, last_attempt=attempt, **self._change(milestone))
        except (msgspec.DecodeError, RecursionError):
            # Of another version: that there was an event is known all the same.
            return msgspec.structs.replace(self, last_attempt=attempt)

    def _change(self, milestone: Milestone) -> dict[str, object]:
        data = milestone.data
        match milestone.event:
            case "start":
                # A milestone comes again where the confirm of the first one was lost.
                is_new = milestone.attempt > self.last_attempt
                return {
                    "calls": self.calls + is_new,
                    "calls_lost": self.calls_lost + (is_new and self.is_open),
                    "is_open": True,
                }
            case "retry":
                announced = max(self.announced, _retries.decode(data).next_attempt)
                return {"announced": announced, "is_open": False}
            case "error":
                error = _errors.decode(data)
                return {"kind": error.kind, "message": error.message, "is_open": False}
            case "end":
                return {"status": _ends.decode(data).status}
            case name if name in SIDE_EFFECT_EVENTS and msgspec.json.decode(data):
                return {"side_effect": True}
            case _:
                return {}
