"""The events that speak for the worker itself: retry, error, end."""

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
    """What an `end` counts.

    Attributes:
        attempts: The highest attempt of the job.
        calls: Prediction calls that were begun, which is what was billed.
        events: Events of the attempt that ends, its `end` included.
        duration: Since the job was taken from the queue.
        recovered: Whether the answer was read from the endpoint's memory.
    """

    attempts: int
    calls: int
    events: int
    duration: timedelta
    recovered: bool = False


@dataclass(frozen=True, slots=True)
class Shown:
    """What an `end` repeats of its attempt.

    Attributes:
        text: The tokens, joined, as a JSON string.
        usage: What the model's provider counted.
        waits_for_human: Whether the flow has paused until somebody acts.
        whole: The endpoint's JSON answer, empty where nobody asked for it.
    """

    text: bytes = b'""'
    usage: UsageCount = UsageCount()  # noqa: RUF009 - it is frozen
    waits_for_human: bool = False
    whole: bytes = b""

    def members(self) -> dict[str, object]:
        """Return the members that are absent where there is nothing to say."""
        members: dict[str, object] = {}
        if self.whole:
            members["answer"] = msgspec.Raw(self.whole)
        if self.usage != UsageCount():
            members["usage"] = self.usage
        if self.waits_for_human:
            members["waitsFor"] = "human"
        return members


def retry_event(
    kind: FailureKind, message: str, next_attempt: int, delay: timedelta
) -> EndpointEvent:
    """Return that the attempt is over and another follows."""
    return _event(
        "retry",
        kind=kind,
        message=message,
        nextAttempt=next_attempt,
        delaySeconds=round(delay.total_seconds(), 3),
    )


def error_event(kind: FailureKind, message: str, http_status: int | None = None) -> EndpointEvent:
    """Return why the job failed for good."""
    status = {} if http_status is None else {"httpStatus": http_status}
    return _event("error", kind=kind, message=message, **status)


def end_event(
    status: EndStatus, tally: Tally, shown: Shown, tags: Mapping[str, str]
) -> EndpointEvent:
    """Return that the job has ended.

    Args:
        status: How it ended.
        tally: What it took.
        shown: What the highest attempt showed.
        tags: The job's own.
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
