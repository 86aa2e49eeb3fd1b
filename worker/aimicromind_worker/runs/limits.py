"""The limits of one job."""

from dataclasses import dataclass
from datetime import timedelta


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one job. A job can lower the first two, and never raise them.

    Attributes:
        max_calls: The most calls that are begun for it.
        attempt_timeout: The longest time of one attempt, its silent calls included.
        hold: The longest time that a worker keeps the job; then it requeues it.
        max_frame_bytes: The largest frame of the endpoint.
        max_answer_bytes: The largest text of one answer.
    """

    max_calls: int
    attempt_timeout: timedelta
    hold: timedelta
    max_frame_bytes: int
    max_answer_bytes: int
