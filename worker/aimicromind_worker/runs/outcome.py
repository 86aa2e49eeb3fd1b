"""What came of running a job; `jobs/settlement.py` says what follows for chat and queue."""

from dataclasses import dataclass
from datetime import timedelta

from aimicromind_schemas import FailureKind


@dataclass(frozen=True, slots=True)
class Completed:
    """The endpoint ended the stream after a success, or its saved answer was read."""


@dataclass(frozen=True, slots=True)
class Failed:
    """The job will not be run again."""

    kind: FailureKind
    message: str
    http_status: int | None = None


@dataclass(frozen=True, slots=True)
class Unfinished:
    """The job was interrupted; another worker goes on with it."""


@dataclass(frozen=True, slots=True)
class Delayed:
    """The job waits on the broker, in the delay queue of that delay, and holds no slot."""

    kind: FailureKind
    message: str
    delay: timedelta


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody asked for the job to be stopped."""


@dataclass(frozen=True, slots=True)
class Waits:
    """The job was not run: an earlier call of its chat may still say something."""

    pause: timedelta


Outcome = Completed | Failed | Unfinished | Delayed | Cancelled


def in_words(outcome: Outcome) -> tuple[str, str]:
    """Return an outcome as numbers are kept of it: its name, and why if it is no success."""
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
