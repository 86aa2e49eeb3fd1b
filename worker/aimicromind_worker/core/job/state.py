"""Read and write the state of a job that travels between workers in its message's headers."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from aimicromind_worker.core.endpoint.usage import UsageCount

Headers = Mapping[str, str | int | bool]

# Higher than any count of a worker. A producer's number must still fit where it is written again.
_MOST = 1_000_000
# Whoever writes the header, it is short.
_HANDLE = re.compile(r"[A-Za-z0-9_-]{11,40}")


@dataclass(frozen=True, slots=True)
class JobState:
    """The state of a job between two workers.

    A new fact that must travel with a job is a field here, and a line in each of the two methods.

    Attributes:
        attempt: The highest attempt that may have published.
        calls: The number of calls begun, as far as is known.
        uncounted: The number of those that do not count against the job, such as calls that a
            drain broke off.
        side_effect: Whether a tool or action ran in one of them.
        sent: Whether the endpoint may have received a request for the job.
        open_attempt: The attempt whose call the endpoint may still finish, 0 if none.
        was_lost: Whether a worker was lost with the job since the job was last looked up.
        crashes: The number of workers that were lost while they had the job, whatever the cause.
        waits: How often in a row the job was requeued without being run.
        deadline: The time at which the job expires, aware; None before its admission.
        handle: Where the job's events begin in the event log; None if unknown.
        usage: Tokens that the model's provider counted in the calls begun.
    """

    attempt: int = 0
    calls: int = 0
    uncounted: int = 0
    side_effect: bool = False
    sent: bool = False
    open_attempt: int = 0
    was_lost: bool = False
    crashes: int = 0
    waits: int = 0
    deadline: datetime | None = None
    handle: str | None = None
    usage: UsageCount = UsageCount()  # noqa: RUF009 - it is frozen

    @property
    def is_unrun(self) -> bool:
        """Whether no worker has run the message; unknown after the broker dead-lettered it."""
        return not self.attempt

    @classmethod
    def from_headers(cls, headers: Mapping[str, object]) -> "JobState":
        """Read the state; a missing or ill-typed header counts as its default."""

        def number(name: str) -> int:
            value = headers.get(name)
            return min(max(value, 0), _MOST) if isinstance(value, int) else 0

        deadline = headers.get("x-aimicromind-deadline")
        handle = headers.get("x-aimicromind-handle")
        return cls(
            attempt=number("x-aimicromind-attempt"),
            calls=number("x-aimicromind-calls"),
            uncounted=number("x-aimicromind-given-up"),
            side_effect=bool(number("x-aimicromind-side-effect")),
            sent=bool(number("x-aimicromind-sent")),
            open_attempt=number("x-aimicromind-open"),
            was_lost=bool(number("x-aimicromind-lost")),
            crashes=number("x-aimicromind-crashes"),
            waits=number("x-aimicromind-waits"),
            deadline=moment(deadline) if isinstance(deadline, str) else None,
            handle=handle if isinstance(handle, str) and _HANDLE.fullmatch(handle) else None,
            usage=UsageCount.from_text(headers.get("x-aimicromind-usage")),
        )

    def to_headers(self) -> Headers:
        """Return all facts as headers, also zeros: they replace those of the message before."""
        headers: dict[str, str | int | bool] = {
            "x-aimicromind-attempt": self.attempt,
            "x-aimicromind-calls": self.calls,
            "x-aimicromind-given-up": self.uncounted,
            "x-aimicromind-side-effect": self.side_effect,
            "x-aimicromind-sent": self.sent,
            "x-aimicromind-open": self.open_attempt,
            "x-aimicromind-lost": self.was_lost,
            "x-aimicromind-crashes": self.crashes,
            "x-aimicromind-waits": self.waits,
            "x-aimicromind-handle": self.handle or "",
            "x-aimicromind-usage": self.usage.to_text(),
        }
        if self.deadline is not None:
            headers["x-aimicromind-deadline"] = self.deadline.isoformat()
        return headers


def moment(text: str | None) -> datetime | None:
    """Parse an ISO 8601 time with an offset; return None for anything else."""
    try:
        read = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return read if read.tzinfo is not None else None
