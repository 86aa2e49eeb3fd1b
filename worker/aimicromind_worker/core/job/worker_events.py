"""Write the worker's own events: `retry`, `error` and `end`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import msgspec

from aimicromind_schemas import EndStatus, FailureKind
from aimicromind_schemas.wire import json_of
from aimicromind_worker.core.endpoint.frames import EndpointEvent
from aimicromind_worker.core.endpoint.usage import UsageCount


@dataclass(frozen=True, slots=True)
class Tally:
    """The counts of an `end`.

    Attributes:
        attempts: The highest attempt of the job.
        calls: The number of prediction calls that were begun.
        events: The number of events of the last attempt, its `end` included.
        duration: The time since the worker received the job.
        recovered: Whether the answer was read from the endpoint's saved messages.
    """

    attempts: int
    calls: int
    events: int
    duration: timedelta
    recovered: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """The parts of a job's answer that its `end` repeats.

    Attributes:
        text: The text of all tokens, a JSON string.
        usage: The counts of the model's provider, over all calls of the job.
        waits_for_human: Whether the flow has paused until a person acts.
        whole: The endpoint's JSON answer; empty unless the job asked for it.
        handle: Where the job's events begin in the event log; None if unknown.
    """

    text: bytes = b'""'
    usage: UsageCount = UsageCount()  # noqa: RUF009 - it is frozen
    waits_for_human: bool = False
    whole: bytes = b""
    handle: str | None = None

    def members(self) -> dict[str, object]:
        """Return the optional members of `end.data` that have a value."""
        members: dict[str, object] = {}
        if self.whole:
            members["answer"] = msgspec.Raw(self.whole)
        if self.usage != UsageCount():
            members["usage"] = self.usage
        if self.waits_for_human:
            members["waitsFor"] = "human"
        if self.handle is not None:
            members["handle"] = self.handle
        return members


def retry_event(
    kind: FailureKind, message: str, next_attempt: int, delay: timedelta
) -> EndpointEvent:
    """Return the event that ends an attempt and announces the next.

    Args:
        kind: Why the attempt ended.
        message: The same as a sentence.
        next_attempt: The number of the next attempt.
        delay: The time until the next attempt.
    """
    return _event(
        "retry",
        kind=kind,
        message=message,
        nextAttempt=next_attempt,
        delaySeconds=round(delay.total_seconds(), 3),
    )


def error_event(kind: FailureKind, message: str, http_status: int | None = None) -> EndpointEvent:
    """Return the event of a job that failed for good; an `end` follows it.

    Args:
        kind: Why the job failed.
        message: The same as a sentence.
        http_status: The endpoint's HTTP status, None if there is none.
    """
    status = {} if http_status is None else {"httpStatus": http_status}
    return _event("error", kind=kind, message=message, **status)


def end_event(
    status: EndStatus, tally: Tally, shown: Shown, tags: Mapping[str, str]
) -> EndpointEvent:
    """Return the last event of a job.

    Args:
        status: How the job ended.
        tally: The counts of the job.
        shown: The answer of the highest attempt.
        tags: The job's own tags, which are repeated.
    """
    return _event(
        "end",
        status=status,
        attempts=tally.attempts,
        calls=tally.calls,
        events=tally.events,
        durationSeconds=round(tally.duration.total_seconds(), 6),
        text=msgspec.Raw(shown.text),
        recovered=tally.recovered,
        tags=msgspec.Raw(json_of(tags)),
        **shown.members(),
    )


def _event(name: str, **data: object) -> EndpointEvent:
    return EndpointEvent(name, msgspec.json.encode(data))
