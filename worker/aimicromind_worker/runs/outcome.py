"""The outcomes of running a job, from which `jobs/settlement.py` settles its delivery."""

from dataclasses import dataclass
from datetime import timedelta

from aimicromind_schemas import FailureKind


@dataclass(frozen=True, slots=True)
class Completed:
    """The endpoint ended the stream after a success, or its saved answer was read."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The job has failed for good.

    Attributes:
        kind: The public kind of the failure.
        message: The same as a sentence.
        http_status: The HTTP status that the endpoint failed with, None if it sent none.
    """

    kind: FailureKind
    message: str
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The job was interrupted by a drain; another worker goes on with it."""


@dataclass(frozen=True, slots=True)
class Delayed:
    """The job waits in a delay queue on the broker and holds no slot.

    Attributes:
        kind: The public kind of the failure before the delay.
        message: The same as a sentence.
        delay: One of the retry delays.
    """

    kind: FailureKind
    message: str
    delay: timedelta


@dataclass(frozen=True, slots=True)
class Cancelled:
    """A cancel request stopped the job."""


@dataclass(frozen=True, slots=True)
class Waits:
    """The job was not run, because an earlier call of its chat may still run at the endpoint.

    Attributes:
        pause: How long to wait before the next look.
    """

    pause: timedelta


Outcome = Completed | Failed | Unfinished | Delayed | Cancelled


def in_words(outcome: Outcome) -> tuple[str, str]:
    """Return the labels of an outcome in metrics: its name, and the kind of its failure or ""."""
    match outcome:
        case Completed():
            return "completed", ""
        case Failed(kind):
            return "failed", kind
        case Delayed(kind):
            return "delayed", kind
        case Unfinished():
            return "handed_back", ""
        case Cancelled():
            return "cancelled", ""
